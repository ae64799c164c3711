"""Flags of fairseq's search that would be ignored, or that contradict each other, are refused with the reason."""

import dataclasses
import re
from pathlib import Path

import pytest
from fairseq.dataclass.configs import GenerationConfig
from searching import make_sentences, make_translator, search

from b2t_common.errors import InputError
from b2t_common.names import flag
from b2t_fairseq.decoding.search_settings import NEEDS, REFUSED

FIELDS = {field.name: field.default for field in dataclasses.fields(GenerationConfig) if field.name != "_name"}
SHOWN_BY_TESTS_OF_THE_COMMAND = {"no_seed_provided", "lm_path"}
REFUSED_BUT_FOR_SPEECH = {"eos_token"}


def test_every_flag_is_tested_or_refused():
    """A flag that a newer fairseq adds makes this test fail.

    The tests in test_search_flags.py and test_search_kinds.py have the names of the flags.
    """
    files = [Path(__file__).with_name(f"test_search_{part}.py") for part in ("flags", "kinds")]
    tested = {name for file in files for name in re.findall(r"^def test_(\w+)\(", file.read_text(), flags=re.MULTILINE)}
    known = tested | REFUSED.keys() | SHOWN_BY_TESTS_OF_THE_COMMAND | REFUSED_BUT_FOR_SPEECH
    assert not FIELDS.keys() - known, "neither tested nor refused"


@pytest.mark.parametrize("name", REFUSED)
def test_a_flag_that_would_be_ignored_is_refused(name):
    value = {"replace_unk": "@@", "decoding_format": "ensemble"}.get(name)
    if value is None:
        value = True if FIELDS[name] is False else FIELDS[name] + 1
    with pytest.raises(InputError, match=f"{flag(name)}.* is not supported: .*drop the flag"):
        search(make_translator(), make_sentences(), **{name: value})


@pytest.mark.parametrize("name", NEEDS)
def test_a_flag_without_effect_alone_is_refused(name):
    value = {"sampling_topk": 3, "retain_dropout_modules": ["TransformerDecoder"]}.get(name, 0.7)
    with pytest.raises(InputError, match=f"{flag(name)} .* has no effect without {flag(NEEDS[name][0])}"):
        search(make_translator(), make_sentences(), **{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "--beam 0: give a positive number"),
        ({"beam": 2, "nbest": 3}, "--nbest 3 is more than --beam 2"),
        ({"sampling": True, "nbest": 2}, "--sampling draws --beam 4 hypotheses, so --nbest 2 must be"),
        ({"sampling": True, "nbest": 4, "sampling_topk": 99}, "--sampling-topk 99: the dictionary has only 44"),
        ({"sampling": True, "nbest": 4, "sampling_topp": 1.5}, "--sampling-topp 1.5: give a probability"),
        ({"sampling": True, "nbest": 4, "sampling_topp": 0.5, "sampling_topk": 3}, "--sampling-topk 3 has no effect"),
        ({"diverse_beam_groups": 3}, "--diverse-beam-groups 3 do not divide --beam 4"),
        ({"diverse_beam_groups": 2, "sampling": True}, "--sampling and --diverse-beam-groups 2 are two kinds"),
        ({"diversity_rate": 0.5, "match_source_len": True}, "--match-source-len and --diversity-rate 0.5 are two"),
        ({"unnormalized": True, "lenpen": 0.6}, "--lenpen 0.6 has no effect with --unnormalized"),
        ({"lenpen": float("nan")}, "--lenpen nan: give a finite number"),
        ({"sampling": True, "nbest": 4, "sampling_topp": 0.0}, "--sampling-topp 0.0: give a probability above 0"),
        ({"sampling": True, "nbest": 4, "sampling_topk": 0}, "--sampling-topk 0: give a positive number"),
        ({"temperature": 0.0}, "--temperature 0.0: give a positive number"),
        ({"min_len": -1}, "--min-len -1: give a number that is not negative"),
        ({"eos_token": "<lang:de>"}, "--eos-token <lang:de> is not supported"),
        ({"max_len_b": 3, "min_len": 5}, "--min-len 5 is more than"),
    ],
)
def test_what_cannot_work_is_refused(settings, message):
    with pytest.raises(InputError) as error:
        search(make_translator(), make_sentences(), **settings)
    assert str(error.value).startswith(message)
