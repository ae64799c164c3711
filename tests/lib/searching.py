"""Searching with the settings of fairseq's commands, and what every search must agree with: teacher forcing."""

from argparse import Namespace

import torch
from fairseq import utils
from fairseq.data import LanguagePairDataset
from fairseq.tasks.translation import TranslationConfig, TranslationTask
from helpers import make_dictionary, make_model, make_task, randomize

WORDS = 40
UNK, EOS = 3, 2


def make_translator(seed=0, end=1.5, **flags):
    """Return a random model that finds most symbols likely, and whose logit of the end is ``end`` on the average."""
    flags = {"share_all_embeddings": False, **flags}
    model = randomize(make_model(task=make_task(WORDS), **flags), seed).eval()
    decoder = model.decoder
    norm = decoder.layer_norm or decoder.layers[-1].final_layer_norm
    with torch.no_grad():
        weight = decoder.output_projection.weight
        weight[EOS] += (end - weight[EOS] @ norm.bias) * norm.bias / norm.bias.square().sum()
    return model


def make_sentences(count=6, first_id=0, lengths=7):
    """Return a batch of sentences of so many different lengths, whose numbers in the corpus begin at ``first_id``."""
    dictionary = make_dictionary(WORDS)
    generator = torch.Generator().manual_seed(2)
    sources = [
        torch.cat((torch.randint(4, len(dictionary), (2 + 2 * n % lengths,), generator=generator), torch.tensor([EOS])))
        for n in range(count)
    ]
    sizes = [len(source) for source in sources]
    data = LanguagePairDataset(sources, sizes, dictionary, sources, sizes, dictionary)
    samples = [{**data[number], "id": first_id + number} for number in range(count)]
    return data.collater(samples)


def one_of(batch, place):
    """Return the batch that has one sentence of a batch, alone and without padding."""
    source = batch["net_input"]["src_tokens"][place]
    source = source[source.ne(1)].unsqueeze(0)
    target = batch["target"][place]
    target = target[target.ne(1)].unsqueeze(0)
    net_input = {
        "src_tokens": source,
        "src_lengths": torch.tensor([source.size(1)]),
        "prev_output_tokens": target.roll(1, dims=1),
    }
    return {"id": batch["id"][place : place + 1], "net_input": net_input, "target": target, "nsentences": 1}


def search(model, batch, seed=1, extra=None, **settings):
    """Return the hypotheses of each sentence in the order of the batch, as the task of ``fairseq-generate`` does.

    Args:
        model: the model.
        batch: the sentences.
        seed: of what is drawn.
        extra: further arguments of the generator.
        **settings: those of fairseq's generation.
    """
    dictionary = make_dictionary(WORDS)
    task = TranslationTask(TranslationConfig(), dictionary, dictionary)
    args = Namespace(**{"beam": 4, "max_len_b": 12, **settings})
    generator = task.build_generator([model], args, extra_gen_cls_kwargs=extra)
    utils.set_torch_seed(seed)
    size = settings.get("prefix_size", 0)
    prefix = batch["target"][:, :size] if size else None
    return task.inference_step(generator, [model], batch, prefix_tokens=prefix)


def best(hypotheses):
    """Return the best hypothesis of each sentence as a list of symbols."""
    return [of_sentence[0]["tokens"].tolist() for of_sentence in hypotheses]


@torch.no_grad()
def forced_log_probs(model, batch, place, tokens, temperature=1.0):
    """Return the model's log-probabilities of all symbols at each position of a hypothesis, ``(len, vocabulary)``."""
    alone = one_of(batch, place)["net_input"]
    previous = torch.cat((torch.tensor([EOS]), tokens[:-1])).unsqueeze(0)
    logits, _ = model(alone["src_tokens"], alone["src_lengths"], previous)
    return torch.log_softmax(logits[0].float() / temperature, dim=-1)


def forced_scores(model, batch, place, tokens, temperature=1.0):
    """Return the log-probability of each token of a hypothesis, ``(len,)``."""
    return forced_log_probs(model, batch, place, tokens, temperature).gather(1, tokens.unsqueeze(1)).squeeze(1)


def each(hypotheses):
    """Yield the place of the sentence in the batch and a hypothesis."""
    for place, of_sentence in enumerate(hypotheses):
        for hypothesis in of_sentence:
            yield place, hypothesis
