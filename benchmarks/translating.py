"""Checkpoints of random models, and the time that fairseq-generate takes for its search."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import meters
from fairseq.logging.meters import StopwatchMeter
from fairseq_cli import generate
from omegaconf import OmegaConf, open_dict

from b2t_fairseq import checkpoints


def write_model(data: Path, path: Path, flags: list[str]) -> int:
    """Write a checkpoint of this plugin with random weights; return the number of its parameters.

    Args:
        data: binarized English-German data with a joined dictionary.
        path: the checkpoint to write.
        flags: flags of the model.
    """
    flags = [str(data), "-s", "en", "-t", "de", "--share-all-embeddings", "--optimizer", "adam", *flags]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), flags))
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(1)
    model = task.build_model(cfg.model)
    settings = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    history = [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
    state = {"args": None, "cfg": settings, "model": model.state_dict(), "optimizer_history": history}
    checkpoints.save({**state, "extra_state": {"train_iterator": None}, "last_optimizer_state": None}, path)
    return sum(parameter.numel() for parameter in model.parameters())


@contextlib.contextmanager
def counting_processor_time(is_wanted: bool) -> Iterator[None]:
    """Let fairseq-generate report the processor time of its search, if that is wanted."""
    before = meters.time
    if is_wanted:
        meters.time = types.SimpleNamespace(time=time.time, perf_counter=time.process_time)
    try:
        yield
    finally:
        meters.time = before


class Translation(NamedTuple):
    """A translation, and its mean log-probability in bits per piece."""

    text: str
    score: float


def search(
    data: Path, model: Path, folder: Path, flags: list[str], settings: Mapping[str, Any] | None = None
) -> tuple[float, dict[int, str]]:
    """Return what :func:`translate` returns, without the scores."""
    seconds, translations = translate(data, model, folder, flags, settings)
    return seconds, {number: translation.text for number, translation in translations.items()}


def translate(
    data: Path, model: Path, folder: Path, flags: list[str], settings: Mapping[str, Any] | None = None
) -> tuple[float, dict[int, Translation]]:
    """Run fairseq-generate in this process.

    Args:
        data: binarized data.
        model: a checkpoint.
        folder: where the output goes.
        flags: further flags of fairseq-generate.
        settings: what ``b2t generate`` adds to them: ``int8``, ``bf16``, ``shortlist``.

    Returns:
        The seconds that it measures for the search, of which it reports tenths only, and the best translation of each
        sentence by its number.
    """
    flags = [str(data), "--path", str(model), "--num-workers", "0", "--no-progress-bar", *flags]
    flags += ["--required-batch-size-multiple", "1", "--results-path", str(folder)]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_generation_parser(), flags))
    with open_dict(cfg.generation):
        cfg.generation.update(settings or {})
    # fairseq-generate adds its own handler, for the output file, only if there is none
    logging.getLogger().handlers.clear()
    timer = StopwatchMeter()
    with contextlib.redirect_stdout(io.StringIO()), patch.object(generate, "StopwatchMeter", lambda: timer):
        generate.main(cfg)
    report = (folder / f"generate-{cfg.dataset.gen_subset}.txt").read_text(encoding="utf-8")
    reported = re.search(r"Translated ([\d,]+) sentences", report)
    found = re.findall(r"^D-(\d+)\t(\S+)\t(.*)$", report, flags=re.MULTILINE)
    translations = {int(number): Translation(text, float(score)) for number, score, text in found}
    assert int(reported[1].replace(",", "")) == len(translations)
    return timer.sum, translations
