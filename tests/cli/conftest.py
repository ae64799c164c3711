"""Shared by the tests of the commands."""

import random
import sys
from copy import deepcopy

import pytest
import sacrebleu
from logs import logged
from sacrebleu.dataset import DATASETS
from scoring import SEGMENTS
from training import SHARED, train

from b2t_cli.conversion import modern
from b2t_cli.scoring.newstest import NEWSTESTS

BRIEFLY = '{"beam": 1, "max_len_a": 0, "max_len_b": 5}'
"""How to translate in validation, where the result does not matter."""


@pytest.fixture(scope="session")
def copied_code(tmp_path_factory):
    """Let transformers copy the code of models into a folder of the tests; it keeps to one folder in a process."""
    modules = pytest.importorskip("transformers").dynamic_module_utils
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("code")))
        patch.setattr(sys, "path", [*sys.path])
        yield


@pytest.fixture(scope="session")
def translated_settings():
    """The settings that fairseq has translated, by their text."""
    return {}


@pytest.fixture
def settings_translated_once(translated_settings, monkeypatch):
    """Let fairseq translate the same settings once, since that takes most of the time of a conversion."""
    translate = modern.convert_namespace_to_omegaconf

    def translate_once(args):
        key = repr(sorted(vars(args).items()))
        if key not in translated_settings:
            translated_settings[key] = translate(args)
        return deepcopy(translated_settings[key])

    monkeypatch.setattr(modern, "convert_namespace_to_omegaconf", translate_once)


@pytest.fixture(scope="session")
def logged_runs(data, tmp_path_factory):
    """The same training twice: ``simple`` in that log format and with BLEU, ``a<b>&c`` in JSON and in two parts."""
    folder = tmp_path_factory.mktemp("report")
    with logged(folder / "simple/train.log"):
        flags = ["--log-format", "simple", "--max-update", "13", "--eval-bleu", "--eval-bleu-args", BRIEFLY]
        train(data, folder / "simple", *SHARED, *flags)
    for updates in ("8", "13"):
        with logged(folder / "a<b>&c/train.log"):
            train(data, folder / "a<b>&c", *SHARED, "--log-format", "json", "--max-update", updates)
    return folder


@pytest.fixture
def sacrebleu_cache(tmp_path, monkeypatch):
    """A small cache of test sets, which sacreBLEU uses; its folder's parent is the current folder.

    One line of each set has separators of Unicode that do not end a line.
    """
    folder, generator = tmp_path / "sacrebleu", random.Random(0)
    for name in NEWSTESTS.values():
        outdir = folder / name
        outdir.mkdir(parents=True)
        lines = [" ".join(f"wort{generator.randrange(30)}" for _ in range(12)) + "." for _ in range(SEGMENTS)]
        lines[3] = lines[3].replace(" ", "\u2028", 1).replace(" ", "\u0085", 1)
        stem = f"{name.replace('/', '_')}.en-de"
        for field in ("src", "ref", "docid", "genre", "origlang"):
            (outdir / f"{stem}.{field}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        monkeypatch.setattr(DATASETS[name], "_outdir", str(outdir))
        monkeypatch.setattr(DATASETS[name], "_rawdir", str(outdir / "raw"))
    monkeypatch.setattr(sacrebleu.utils, "SACREBLEU_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder
