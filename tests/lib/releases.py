"""Checkpoints as the papers' releases wrote them: made from recorded numbers, or real ones in the folder REAL."""

from __future__ import annotations

import json
import sys
import types
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.sequence_generator import SequenceGenerator
from golden import Golden
from helpers import ROOT

REAL = ROOT.parent / "shared/golden/checkpoints"


def raw_state(golden: Golden, prefix: str = "state/") -> OrderedDict:
    """Return parameters under the release's names, tied ones under each name and in one storage."""
    state = {key.removeprefix(prefix): value for key, value in golden.arrays.items() if key.startswith(prefix)}
    for first, *aliases in golden.meta["tied_parameters"]:
        state.update({alias: state[first] for alias in aliases if first in state})
    return OrderedDict(state)


def release_checkpoint(name: str, state: dict | None = None, **overrides) -> dict:
    """Return the checkpoint of a recorded model as its release writes it, without the state of the optimizer."""
    golden = Golden(name)
    model = raw_state(golden)
    model.update(state or {})
    for stack in ("encoder", "decoder"):
        model[f"{stack}.version"] = torch.tensor([3.0])
        positions = "embed_positions_original" if name.startswith("b2t") and stack == "decoder" else "embed_positions"
        model[f"{stack}.{positions}._float_tensor"] = torch.full((1,), float("nan"))
    args = Namespace(**{**golden.meta["args"], "source_lang": "en", "target_lang": "de", **overrides})
    history = {"criterion_name": "LabelSmoothedCrossEntropyCriterion", "optimizer_name": "FairseqAdam"}
    return {
        "args": args,
        "model": model,
        "optimizer_history": [{**history, "lr_scheduler_state": {"best": 3.5}, "num_updates": 7}],
        "extra_state": {"train_iterator": {"epoch": 2, "iterations_in_epoch": 5}, "val_loss": 3.5, "best": 3.5},
        "last_optimizer_state": {"state": {}, "param_groups": []},
    }


def save_as_release(
    checkpoint: dict, path: Path, old: bool = True, meters=("AverageMeter",), module="fairseq.meters"
) -> Path:
    """Write a checkpoint with objects of classes that fairseq no longer has, in torch's old format or its new one."""
    classes = {name: type(name, (), {"__module__": module}) for name in meters}
    objects = {}
    for name, cls in classes.items():
        objects[name] = cls()
        objects[name].__dict__.update(val=torch.tensor(1.5), sum=3, count=2)
    before = sys.modules.get(module)
    sys.modules[module] = types.ModuleType(module)
    sys.modules[module].__dict__.update(classes)
    try:
        checkpoint = {**checkpoint, "extra_state": {**checkpoint["extra_state"], "train_meters": OrderedDict(objects)}}
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not old)
    finally:
        sys.modules.pop(module)
        if before is not None:
            sys.modules[module] = before
    return path


def load_model(path: Path, data: Path):
    """Return the model, the settings and the task of a checkpoint, as fairseq's commands load it."""
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], arg_overrides={"data": str(data)})
    return models[0].eval(), cfg, task


def write_dictionaries(symbols: list[str], folder: Path) -> Path:
    """Write ``dict.en.txt`` and ``dict.de.txt`` with these symbols; fairseq adds four of its own."""
    for language in ("en", "de"):
        (folder / f"dict.{language}.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols))
    return folder


def sentence_pairs(folder: Path, split: str, dictionary: Dictionary) -> LanguagePairDataset:
    """Return the sentence pairs of a split of text, encoded by a dictionary."""
    sides = []
    for language in ("en", "de"):
        lines = (folder / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
        sides.append([dictionary.encode_line(line, add_if_not_exist=False).long() for line in lines])
    sizes = [[len(sentence) for sentence in side] for side in sides]
    return LanguagePairDataset(sides[0], sizes[0], dictionary, sides[1], sizes[1], dictionary, shuffle=False)


def batches(dataset: LanguagePairDataset, size: int = 25):
    """Yield batches of sentences of similar length."""
    order = sorted(range(len(dataset)), key=lambda index: dataset.src_sizes[index])
    for start in range(0, len(order), size):
        yield dataset.collater([dataset[index] for index in order[start : start + size]])


def decode(model, dataset: LanguagePairDataset, beam: int, lenpen: float, **settings) -> dict[int, list[dict]]:
    """Return the hypotheses of each sentence by its number, best first."""
    dictionary = dataset.tgt_dict
    generator = SequenceGenerator([model], dictionary, beam_size=beam, len_penalty=lenpen, max_len_b=200, **settings)
    hypotheses = {}
    for batch in batches(dataset):
        hypotheses.update(zip(batch["id"].tolist(), generator.generate([model], batch), strict=True))
    return hypotheses


def expected(name: str) -> dict:
    """Return what the release's own programs computed with a real checkpoint."""
    return json.loads((REAL / name / "expected.json").read_text(encoding="utf-8"))
