"""Words are looked up faster than by fairseq, with the same results."""

import pytest
from fairseq.data import Dictionary
from helpers import make_dictionary


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("append_eos", [False, True])
@pytest.mark.parametrize("reverse_order", [False, True])
def test_words_are_looked_up_as_fairseq_does(add, append_eos, reverse_order):
    """This includes unknown words, empty lines and white space of Unicode, and what a ``consumer`` is told."""
    lines = ["w01 w02 never w01", "", "  ", "w03\u2028w04\u00a0w05\n", "w01 " * 50]
    results = []
    for encode in (Dictionary.encode_line.__wrapped__, Dictionary.encode_line):
        dictionary, consumed = make_dictionary(), []
        flags = {"add_if_not_exist": add, "append_eos": append_eos, "reverse_order": reverse_order}
        flags["consumer"] = lambda *pair, to=consumed: to.append(pair)
        tensors = [encode(dictionary, line, **flags) for line in lines]
        results.append(([(t.dtype, t.tolist()) for t in tensors], consumed, len(dictionary)))
    assert results[0] == results[1]
