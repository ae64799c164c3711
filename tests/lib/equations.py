"""Each scheme's equation written out in plain PyTorch: the reference for the models' layers."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

# The stacks have different depths, so that a test fails where one depth is used for the other.
LAYERS = {"encoder": 6, "decoder": 4}
UPDATE = 1000
"""The update of training in which the equations hold, counted from 1."""


def attention(attn, query, source, mask):
    """Return scaled dot-product attention, computed head by head.

    ``query`` is (tgt_len, embed_dim), ``source`` (src_len, embed_dim); ``mask``, (tgt_len, src_len), is true where a
    query may not see a key.
    """
    queries, keys, values = attn.q_proj(query), attn.k_proj(source), attn.v_proj(source)
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * attn.head_dim, (head + 1) * attn.head_dim)
        scores = queries[:, part] @ keys[:, part].T * attn.head_dim**-0.5
        heads.append(torch.softmax(scores.masked_fill(mask, float("-inf")), dim=-1) @ values[:, part])
    return linear(attn.out_proj, torch.cat(heads, dim=-1))


def feed_forward(layer, x):
    """Return the output of the two linear maps with ReLU between them."""
    return linear(layer.fc2, F.relu(layer.fc1(x)))


def linear(layer, x):
    """Return a linear map, of a normalized input if there is a norm in it."""
    x = normalized(layer.norm, x) if hasattr(layer, "norm") else x
    return x @ layer.weight.T + layer.bias


def normalized(norm, x):
    """Return layer normalization written out."""
    mean, variance = x.mean(dim=-1, keepdim=True), x.var(dim=-1, unbiased=False, keepdim=True)
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


NORM_AFTER_STACK = ("pre_ln", "mix_ln", "ln_scaling", "dlcl", "sandwich_ln", "peri_ln", "sub_ln")


class Place(NamedTuple):
    """Where a sub-layer is: a layer has two in an encoder and in a language model, three in any other decoder."""

    stack: str
    depth: int  # of the layer, from 1
    sublayer: int  # its number in the layer, from 0
    sublayers: int  # how many the layer has


def sublayer_output(scheme, layer, place, x, f, norm, layer_input):
    """Return the output of one sub-layer by the equation of its scheme."""
    stack, depth, sublayer, sublayers = place
    encoder, last = stack == "encoder", sublayer == sublayers - 1
    n, m = LAYERS["encoder"], LAYERS["decoder"]
    if scheme == "post_ln" or (scheme == "b2t" and not last) or (scheme == "mix_ln" and depth <= LAYERS[stack] // 4):
        return norm(x + f(x))
    if scheme == "b2t":
        return norm(layer_input + x + f(x))
    if scheme in ("pre_ln", "mix_ln", "dlcl", "sub_ln"):
        return x + f(norm(x))
    if scheme == "span_norm":
        return norm(layer_input + f(x)) if last else norm(x + f(x))
    if scheme in ("sandwich_ln", "peri_ln"):
        return x + normalized(layer.residual.output_norms[sublayer], f(norm(x)))
    if scheme == "keel":
        return norm(sublayers * LAYERS[stack] * x + f(normalized(layer.residual.input_norms[sublayer], x)))
    if scheme == "branch_norm":
        return norm(x + (min(1, UPDATE / 4000) if layer.training else 1) * f(x))
    if scheme == "ln_scaling":
        return x + f(norm(x) / depth**0.5)
    if scheme == "admin":
        return norm(layer.residual.omega[sublayer] * x + f(x))
    if scheme == "deepnorm":
        return norm((0.81 * (n**4 * m) ** (1 / 16) if encoder else (sublayers * m) ** (1 / 4)) * x + f(x))
    if scheme == "rezero":
        return x + layer.residual.alpha * f(x)
    if scheme == "b2t_no_ln" and last:
        layers = LAYERS[stack]
        return min(layers**-0.15, layers / 12) * layer_input + 16**-0.2 * (x + f(x))
    assert scheme in ("t_fixup", "b2t_no_ln")
    return x + f(x)


def combination(stack, outputs):
    """Return DLCL's input of the layer above ``outputs``: the embedding and the outputs of all layers below."""
    weights = stack.inputs[len(outputs) - 1].weights
    return sum(weights[k] * stack.inputs[k].norm(output) for k, output in enumerate(outputs))


def run_stack(scheme, stack, x, source=None):
    """Return the output of a stack for one sentence, (seq_len, embed_dim).

    ``x`` is the embedding with its positions.

    ``source`` is the encoder's output, (src_len, embed_dim), for a decoder with cross-attention.
    """
    future = torch.ones(len(x), len(x), dtype=torch.bool).triu(1) & (stack.name == "decoder")
    nothing = None if source is None else torch.zeros(len(x), len(source), dtype=torch.bool)
    if scheme == "peri_ln":
        x = normalized(stack.layernorm_embedding, x)
    outputs = [x]
    unnormalized = x
    for depth, layer in enumerate(stack.layers, 1):
        if scheme == "dlcl":
            x = combination(stack, outputs)
        sublayers = [
            (lambda q, layer=layer: attention(layer.self_attn, q, q, future), layer.self_attn_layer_norm),
            (lambda x, layer=layer: feed_forward(layer, x), layer.final_layer_norm),
        ]
        if source is not None:
            cross = lambda q, layer=layer: attention(layer.encoder_attn, q, source, nothing)  # noqa: E731
            sublayers.insert(1, (cross, layer.encoder_attn_layer_norm))
        layer_input = x
        for sublayer, (f, norm) in enumerate(sublayers):
            place = Place(stack.name, depth, sublayer, len(sublayers))
            if scheme == "resi_dual":
                output = f(x)
                x, unnormalized = norm(x + output), unnormalized + output
            else:
                x = sublayer_output(scheme, layer, place, x, f, norm, layer_input)
        outputs.append(x)
    if scheme == "dlcl":
        x = combination(stack, outputs)
    if scheme == "resi_dual":
        return x + normalized(stack.layer_norm, unnormalized)
    return stack.layer_norm(x) if scheme in NORM_AFTER_STACK else x


def translation_logits(scheme, model, source, target):
    """Return a translation model's logits for one sentence, (tgt_len, vocabulary), from the embedding on.

    ``source`` and ``target`` are the tokens that encoder and decoder read; the embeddings are 16 wide.
    """
    table = model.encoder.embed_tokens.weight
    positions = model.encoder.embed_positions.weights.to(table)
    x = run_stack(scheme, model.encoder, 4 * table[source] + positions[2 : 2 + len(source)])
    return run_stack(scheme, model.decoder, 4 * table[target] + positions[2 : 2 + len(target)], x) @ table.T
