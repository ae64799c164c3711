"""Puts this checkout first on the path and registers the plugin; holds the fixtures that several folders share."""

import gc
import logging
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/lib"), str(ROOT / "scripts/corpus")]
sys.path.insert(0, str(ROOT))
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a process whose backward passes had threads for GPUs cannot be forked
os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes run side by side

from b2t_common.threads import let_waiting_threads_sleep  # noqa: E402

let_waiting_threads_sleep()  # before PyTorch is imported

import composition  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from longest import LONGEST  # noqa: E402
from pieces import binarize_pieces, write_words  # noqa: E402
from training import binarize, write_corpus  # noqa: E402
from wmt import prepare, write_archives, write_cache, write_table  # noqa: E402

import b2t_fairseq  # noqa: E402, F401

torch.set_num_threads(1)
composition.install()
# A job in the background ignores SIGINT, and so would all processes that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def root_logger_as_before():
    """Remove the handlers of commands that ran in this process, since they write to output that a test captured."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in [handler for handler in root.handlers if type(handler) is logging.StreamHandler]:
        if handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder with the small generated corpus, as text and, in ``bin``, as binary data for translation."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    binarize(folder)
    return folder


@pytest.fixture(scope="session")
def data(corpus):
    """The binary data of ``corpus``, as fairseq's commands take it."""
    return str(corpus / "bin")


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    """A folder with a small corpus of words made of syllables, as text."""
    folder = tmp_path_factory.mktemp("words")
    write_words(folder)
    return folder


@pytest.fixture(scope="session")
def unigram_data(words):
    """The binary data of ``words`` in pieces of a unigram model of SentencePiece, which lies in it."""
    return binarize_pieces(words, "unigram")


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Archives on a server's disk, their table, and a cache of test sets, in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("a world")
    write_archives(folder / "mirror")
    write_table(folder / "archives.tsv")
    write_cache(folder / "sacrebleu")
    return folder


@pytest.fixture(scope="session")
def prepared(world):
    """The folder of the binary data that scripts/prepare_wmt14_en_de.sh makes of the archives."""
    prepare(world, world / "prepared")
    return world / "prepared"


def pytest_collection_finish():
    """Keep what was imported, hundreds of thousands of objects, out of the collections of garbage; have few of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no process has one of them left when the others are done."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))
