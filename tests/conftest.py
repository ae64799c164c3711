"""Puts the checkout first on the path and registers the plugin; one thread, as tests may run side by side."""

import logging
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "scripts/corpus")]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from wmt import prepare, write_archives, write_cache, write_table  # noqa: E402

import b2t_fairseq  # noqa: E402, F401

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def root_logger_as_before():
    """A command that runs in this process leaves a handler that writes to a test's captured, then closed output."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        if handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Archives on a server's disk, their table, and a cache of test sets; a blank in the path."""
    folder = tmp_path_factory.mktemp("a world")
    write_archives(folder / "mirror")
    write_table(folder / "archives.tsv")
    write_cache(folder / "sacrebleu")
    return folder


@pytest.fixture(scope="session")
def prepared(world):
    """The archives as binary data and all that lies beside it."""
    prepare(world, world / "prepared")
    return world / "prepared"


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no process ends up with one of them while the others wait."""
    longest = ("test_whole_path", "test_train_script", "test_training", "test_prepare", "test_commands", "test_lm")
    rank = {name: number for number, name in enumerate(longest)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
