"""Runs with translations to score, without a trained model, and the settings of the papers' models."""

import json
import random
from argparse import Namespace

import torch
from sacremoses import MosesDetokenizer

from b2t_cli.scoring.newstest import NEWSTESTS, references
from b2t_fairseq import checkpoints
from b2t_fairseq.settings.fields import as_namespace

SEGMENTS = 12
DEEP = {"encoder_layers": 18, "decoder_layers": 18}
SIX_SETS = {"layer_sharing": "cycle_rev", "encoder_unique_layers": 6, "decoder_unique_layers": 6}
POST_LN = {"residual": "post_ln"}


def wmt_settings(**flags):
    """Return the settings of a base model of the papers; keywords override them."""
    given = {"share_all_embeddings": True, "decoder_attention_heads": 8, **flags}
    return {**vars(as_namespace(Namespace(**given))), "_name": "b2t_transformer"}


def make_run(folder, seed, names=NEWSTESTS, drop=0.2, **flags):
    """Write a run whose translations are the references without a share ``drop`` of their words."""
    (folder / "evaluation").mkdir(parents=True)
    generator = random.Random(seed)
    for name in names:
        output = []
        for number, line in enumerate(references(name)):
            words = [word for word in line.split(" ") if generator.random() >= drop]
            best, second = " ".join(words), "another"
            output += [f"S-{number}\tsource", f"D-{number}\t-0.3\t{best}", f"D-{number}\t-0.4\t{second}"]
        groups = [output[i : i + 3] for i in range(0, len(output), 3)]
        generator.shuffle(groups)
        text = "\n".join(line for group in groups for line in group)
        (folder / f"evaluation/{name}.generated.txt").write_text(text + "\n", encoding="utf-8")
    embedding = torch.zeros(8, 512)
    model = {f"{stack}.embed_tokens.weight": embedding for stack in ("encoder", "decoder")}
    checkpoints.save({"model": model, "cfg": {"model": wmt_settings(**flags)}}, folder / "evaluation/averaged.pt")
    return folder


def scores(folder, name="scores"):
    """Return the scores that ``b2t score`` wrote into a run."""
    return json.loads((folder / f"evaluation/{name}.json").read_text())


def make_own_run(folder, seed, lower=True, drop=0.2, **flags):
    """Write a run with test sets of its own, as scripts/evaluate.sh leaves it; its settings are of IWSLT14's size.

    The translations are the references without a share ``drop`` of their words: lower-cased tokens, and text made of
    these, or text with upper case in pieces.
    """
    references = folder / "evaluation/references"
    references.mkdir(parents=True)
    text = [f"The talk number {number}, it's well-known (really), ends here." for number in range(SEGMENTS)]
    tokens = [
        f"the talk number {number} , it &apos;s well-known ( really ) , ends here ." for number in range(SEGMENTS)
    ]
    generator = random.Random(seed)
    output = []
    for number in range(SEGMENTS):
        words = [word for word in (tokens if lower else text)[number].split() if generator.random() >= drop]
        line = " ".join(words)
        best = MosesDetokenizer("en").detokenize(words) if lower else line
        output += [f"S-{number}\tsource", f"H-{number}\t-0.3\t{line}", f"D-{number}\t-0.3\t{best}"]
    files = {"iwslt14.de": ["Vortrag"] * SEGMENTS, "iwslt14.en": text, "iwslt14.tokens.en": tokens}
    for name, lines in files.items():
        (references / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    about = {"language_pair": "de-en", "sets": ["iwslt14"], "lower_cased_tokens": lower}
    (references / "about.json").write_text(json.dumps(about))
    (folder / "evaluation/iwslt14.generated.txt").write_text("".join(f"{line}\n" for line in output), encoding="utf-8")
    size = {"encoder_embed_dim": 256, "encoder_ffn_embed_dim": 1024, "encoder_attention_heads": 4}
    size |= {"decoder_attention_heads": 4, "residual": "resi_dual", **flags}
    model = {f"{stack}.embed_tokens.weight": torch.zeros(8, 256) for stack in ("encoder", "decoder")}
    checkpoints.save({"model": model, "cfg": {"model": wmt_settings(**size)}}, folder / "evaluation/averaged.pt")
    return folder
