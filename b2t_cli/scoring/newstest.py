"""The papers' test sets, newstest2010 to newstest2016, which sacreBLEU downloads once and then has in its cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from b2t_common.errors import InputError
from b2t_common.files import read_lines

# the papers score all 3,003 segments of 2014; sacreBLEU's wmt14 is only the subset of the official evaluation
NEWSTESTS = {
    "newstest2010": "wmt10",
    "newstest2011": "wmt11",
    "newstest2012": "wmt12",
    "newstest2013": "wmt13",
    "newstest2014": "wmt14/full",
    "newstest2015": "wmt15",
    "newstest2016": "wmt16",
}
PAPERS_PAIR = "en-de"

Answer = TypeVar("Answer")


def sources(name: str, language_pair: str = PAPERS_PAIR) -> list[str]:
    """Return the source sentences of a test set; arguments and errors as of :func:`references`."""
    from sacrebleu import get_source_file

    return read_lines(Path(_file(get_source_file, name, language_pair)))


def references(name: str, language_pair: str = PAPERS_PAIR) -> list[str]:
    """Return the reference translations of a test set.

    Args:
        name: a name in ``NEWSTESTS``.
        language_pair: source and target, such as ``en-de``.

    Raises:
        InputError: the set or the language pair is unknown, or the set is not in sacreBLEU's cache and cannot be
            downloaded.
    """
    from sacrebleu import get_reference_files

    return read_lines(Path(_file(get_reference_files, name, language_pair)[0]))


def check_language_pair(name: str, language_pair: str) -> None:
    """Check that sacreBLEU has a test set in a language pair.

    Raises:
        InputError: it does not; the message lists the sets or the pairs that it has.
    """
    from sacrebleu.dataset import DATASETS

    if name not in NEWSTESTS:
        raise InputError(f"{name}: unknown test set; choose one of {', '.join(NEWSTESTS)}")
    known = DATASETS[NEWSTESTS[name]].langpairs
    if language_pair not in known:
        raise InputError(f"--language-pair {language_pair}: {name} has only {', '.join(sorted(known))}")


def _file(get: Callable[[str, str], Answer], name: str, language_pair: str) -> Answer:
    from sacrebleu import utils

    check_language_pair(name, language_pair)
    try:
        return get(NEWSTESTS[name], language_pair)
    except (Exception, SystemExit) as error:
        # sacreBLEU does not catch what downloading and unpacking raise, and it exits if a checksum is wrong
        cache = Path(utils.SACREBLEU_DIR)
        raise InputError(
            f"{name} ({NEWSTESTS[name]}, {language_pair}) is not in sacreBLEU's cache {cache} and could not be "
            f"downloaded ({error!r}); run `sacrebleu --download {NEWSTESTS[name]} -l {language_pair}` where there is a "
            f"network and copy that folder, or set SACREBLEU to a folder that has it"
        ) from None
