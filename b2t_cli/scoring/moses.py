"""The tokens of Moses' own ``tokenizer.perl``, by sacremoses, which differs from it in two points."""

from __future__ import annotations

import re

from b2t_common.errors import InputError

# of the last word: Moses splits it off since November 2018, sacremoses only where no abbreviation can end with it
_FINAL_FULL_STOP = re.compile(r"(?<=[^\s.])\.$")


class PerlTokenizer:
    """Splits lines as ``tokenizer.perl -l LANGUAGE`` of November 2018 and later, without other options.

    The numbers of pairs that papers give for IWSLT14 follow from these tokens.

    Raises:
        InputError: sacremoses is not installed.
    """

    def __init__(self, language: str) -> None:
        try:
            import regex
            from sacremoses import MosesTokenizer
        except ImportError as error:
            raise InputError(f"{error}; install it: pip install sacremoses") from None
        self._tokenizer = MosesTokenizer(language)
        # Perl's letters and digits; sacremoses has a list of its own, in which most of the Chinese ones are missing
        self._tokenizer.PAD_NOT_ISALNUM = regex.compile(r"([^\p{Alnum}\s.'`,\-])"), r" \1 "

    def __call__(self, line: str) -> str:
        """Return the tokens of a line, separated by blanks."""
        return _FINAL_FULL_STOP.sub(" .", self._tokenizer.tokenize(line, return_str=True))
