"""Small models in float64: what ``b2t analyze`` measures of them, and the same measured by plain hooks."""

import copy
import functools
import math
from types import SimpleNamespace

import torch
from golden import release_loss
from helpers import make_batch, make_model, make_task, randomize
from language_models import make_lm, make_lm_batch
from speech import make_speech_batch, make_speech_model
from torch import nn

from b2t_cli.analysis import measuring, subjects
from b2t_fairseq.layer_stack import layer_stacks
from b2t_fairseq.residual import SCHEMES

LAYERS = {"encoder_layers": 4, "decoder_layers": 6}
SETS = {"encoder_unique_layers": 2, "decoder_unique_layers": 3}
PADDING = 1
NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")


def translation(**flags):
    """Return a translation model and two batches, the first with padding."""
    return randomize(make_model(**{**LAYERS, **flags})).double().eval(), [make_batch(), make_batch(None, 1, False)]


def language_model(**flags):
    """Return a language model and two batches."""
    batches = [counted(make_lm_batch(seed=seed)) for seed in (0, 1)]
    return randomize(make_lm(decoder_layers=4, **flags)).double().eval(), batches


def speech(**flags):
    """Return a model for speech and two batches, the first with padding."""
    batches = [counted(make_speech_batch(padding)) for padding in (True, False)]
    for batch in batches:
        batch["net_input"]["src_tokens"] = batch["net_input"]["src_tokens"].double()
    return randomize(make_speech_model(**{**LAYERS, **flags})).double().eval(), batches


def counted(batch):
    """Return a batch with the number of its target tokens, as fairseq's tasks collate it."""
    return {**batch, "ntokens": int(batch["target"].ne(PADDING).sum())}


KINDS = {"translation": translation, "language model": language_model, "speech": speech}
PAIRS = [(kind, scheme) for kind in ("translation", "language model") for scheme in SCHEMES]


def loss_of(model, batch):
    """Return the label-smoothed loss, summed over target tokens."""
    return release_loss(model(**batch["net_input"])[0], batch["target"])


def analyzed(model, batches, scale=1.0):
    """Return what is measured of a copy of the model, since measuring unties its parameters.

    The loss is ``scale`` times that of :func:`loss_of`.
    """

    def criterion(model, batch):
        return scale * loss_of(model, batch), batch["ntokens"], {}

    source = {"checkpoint": None, "updates": 0}
    subject = subjects.Subject("a model", copy.deepcopy(model), criterion, make_task(), source)
    return measuring.analyze(subject, batches)


def norms(layer):
    """Return the norms that a layer has, in the order of its sub-layers."""
    modules = [getattr(layer, name, None) for name in NORMS]
    return [norm for norm in modules if isinstance(norm, nn.LayerNorm)]


def around(model, modules, batch):
    """Return, for each module, its input and output on a batch, and the loss's gradients for the two."""
    seen = {}

    def keep(module, args, output):
        seen[module] = [args[0], output[0] if isinstance(output, tuple) else output]

    handles = [module.register_forward_hook(keep) for module in modules]
    loss = loss_of(model, batch)
    for handle in handles:
        handle.remove()
    ends = [tensor for module in modules for tensor in seen[module]]
    gradients = torch.autograd.grad(loss, ends)
    # Two residual streams are one tensor with a dimension more; the first stream is what sub-layers read.
    values = [end[0] if end.dim() == 4 else end for end in ends]
    gradients = [gradient.sum(dim=0) if gradient.dim() == 4 else gradient for gradient in gradients]
    return {module: values[2 * i : 2 * i + 2] + gradients[2 * i : 2 * i + 2] for i, module in enumerate(modules)}


def is_token(model, stack, batch):
    """Return the mask of a stack's positions that are no padding, (seq_len, batch)."""
    if stack.name == "decoder":
        return batch["target"].ne(PADDING).t()
    source, lengths = batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
    if source.dim() == 2:
        return source.ne(PADDING).t()
    x, lengths = model.encoder.subsample(source, lengths)
    return torch.arange(len(x))[:, None] < lengths


@functools.cache
def observed(kind, scheme):
    """Return a model, what is measured of it, and what hooks see at each layer and each norm.

    ``seen`` has for each module its input, its output and their gradients, (tokens, embed_dim), over all batches.
    """
    model, batches = KINDS[kind](residual=scheme)
    seen = {}
    for stack in layer_stacks(model):
        modules = [module for layer in stack.layer_list() for module in (layer, *norms(layer))]
        parts = []
        for batch in batches:
            kept = is_token(model, stack, batch)
            at_ends = around(model, modules, batch)
            parts.append({module: [tensor[kept] for tensor in at_ends[module]] for module in modules})
        seen |= {m: [torch.cat(ends) for ends in zip(*(part[m] for part in parts), strict=True)] for m in modules}
    losses = [loss_of(model, batch).item() for batch in batches]
    return SimpleNamespace(model=model, batches=batches, losses=losses, seen=seen, result=analyzed(model, batches))


def root_mean_square(gradients):
    """Return the root of the mean squared norm of gradients, (tokens, embed_dim)."""
    return math.sqrt(sum(float(gradient @ gradient) for gradient in gradients) / len(gradients))
