"""The claims that the study decides, and the rules that decide them.

A new claim goes into ``CLAIMS``.  Its comparisons must be of models in the grid (grid.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claims.registry import B2T_PAPER, NEITHER, SHARING_PAPER
from claims.study import judging
from claims.study.grid import MODELS, SAME_FLOPS, UPDATES, Model
from claims.study.judging import EQUAL, NO_REWARD, NOT_RUN, Comparison, Judgement, Outcome
from claims.study.records import Record
from claims.verdicts import FAILS, HOLDS, OPEN

RESI_DUAL_PAPER = "ResiDual paper"


def _against(ours: str, *others: str, updates: int = UPDATES) -> tuple[Comparison, ...]:
    return tuple(Comparison(MODELS[ours], MODELS[other], their_updates=updates) for other in others)


DEPTH = tuple(_against(f"{scheme}_18", f"{scheme}_6")[0] for scheme in ("pre_ln", "b2t", "post_ln"))
"""If our models are better in none of these, this setting does not reward depth (rule 4)."""


@dataclass(frozen=True)
class StudyClaim:
    """A claim that the study decides.

    Attributes:
        name: the name in tables.
        source: the paper that makes it.
        statement: the claim in one sentence.
        comparisons: the first model of each must be better.
        or_equal: which of them may be equal, too.
        deeper: whether it says that more layers are better.
        trains: models by name, and whether each is said to train.
        words: two models of the word problem; the first one must find more products.
    """

    name: str
    source: str
    statement: str
    comparisons: tuple[Comparison, ...] = ()
    or_equal: tuple[Comparison, ...] = ()
    deeper: bool = False
    trains: tuple[tuple[str, bool], ...] = ()
    words: tuple[str, str] | None = None

    @property
    def models(self) -> tuple[Model, ...]:
        """The models whose learning-rate curves it needs, each once."""
        compared = [model for pair in self.comparisons for model in (pair.ours, pair.theirs)]
        return tuple(dict.fromkeys([*compared, *(MODELS[name] for name, _ in self.trains)]))


_POST_LN_6 = _against("post_ln_6", "b2t_6")
CLAIMS = (
    StudyClaim(
        "divergence",
        B2T_PAPER,
        "With 18-18 layers Post-LN fails to train, Pre-LN and B2T train.",
        trains=(("post_ln_18", False), ("pre_ln_18", True), ("b2t_18", True)),
    ),
    StudyClaim(
        "loss_18l",
        B2T_PAPER,
        "With 18-18 layers B2T reaches a lower loss than Pre-LN.",
        _against("b2t_18", "pre_ln_18"),
    ),
    StudyClaim(
        "loss_6l",
        B2T_PAPER,
        "With 6-6 layers Post-LN is at least as good as B2T, and B2T better than Pre-LN.",
        (*_POST_LN_6, *_against("b2t_6", "pre_ln_6")),
        _POST_LN_6,
    ),
    StudyClaim(
        "best_18l",
        B2T_PAPER,
        "With 18-18 layers B2T reaches a lower loss than Admin and DeepNorm.",
        _against("b2t_18", "admin_18", "deepnorm_18"),
    ),
    StudyClaim(
        "deeper",
        B2T_PAPER,
        "With Pre-LN and with B2T, 18-18 layers reach a lower loss than 6-6.",
        DEPTH[:2],
        deeper=True,
    ),
    StudyClaim(
        "resi_dual_18l",
        RESI_DUAL_PAPER,
        "With 18-18 layers ResiDual reaches a lower loss than B2T.",
        _against("resi_dual_18", "b2t_18"),
    ),
    StudyClaim(
        "sharing_12",
        SHARING_PAPER,
        "With equal parameters and updates, Admin, Cycle (rev), M=6, N=12, is better than Vanilla and Admin, M=N=6.",
        _against("admin_12_from_6", "post_ln_6", "admin_6"),
        deeper=True,
    ),
    StudyClaim(
        "sharing_12_flops",
        SHARING_PAPER,
        "With equal parameters and FLOPs, Admin, Cycle (rev), M=6, N=12, is better than Vanilla and Admin, M=N=6.",
        _against("admin_12_from_6", "post_ln_6", "admin_6", updates=SAME_FLOPS),
        deeper=True,
    ),
    StudyClaim(
        "b2t_sharing_12",
        NEITHER,
        "With equal parameters and updates, B2T, Cycle (rev), M=6, N=12, is better than B2T, M=N=6.",
        _against("b2t_12_from_6", "b2t_6"),
        deeper=True,
    ),
    StudyClaim(
        "b2t_sharing_12_flops",
        NEITHER,
        "With equal parameters and FLOPs, B2T, Cycle (rev), M=6, N=12, is better than B2T, M=N=6.",
        _against("b2t_12_from_6", "b2t_6", updates=SAME_FLOPS),
        deeper=True,
    ),
    StudyClaim(
        "words_depth",
        NEITHER,
        "Word problem: 18-18 Pre-LN finds more products of long words than 6-6 Pre-LN.",
        words=("pre_ln_18", "pre_ln_6"),
    ),
    StudyClaim(
        "words_b2t",
        NEITHER,
        "Word problem: with 18-18 layers B2T finds more products of long words than Pre-LN.",
        words=("b2t_18", "pre_ln_18"),
    ),
    StudyClaim(
        "words_sharing",
        NEITHER,
        "Word problem: 18-18 layers from 6 sets find more products of long words than 6-6, both Pre-LN.",
        words=("pre_ln_18_from_6", "pre_ln_6"),
    ),
)
"""Parts of the same paper are corrected together; the ones of neither paper too."""


def outcomes(done: Sequence[Record]) -> dict[Comparison, Outcome | None]:
    """Return the outcomes of all comparisons, corrected within each paper."""
    results: dict[Comparison, Outcome | None] = {}
    for source in dict.fromkeys(claim.source for claim in CLAIMS):
        compared = [pair for claim in CLAIMS if claim.source == source for pair in claim.comparisons]
        # Post-LN's comparison of depths belongs to no claim, but rule 4 needs it
        compared += DEPTH if source == B2T_PAPER else ()
        results |= judging.outcomes(done, list(dict.fromkeys(compared)))
    return results


def judge(done: Sequence[Record]) -> dict[str, Judgement]:
    """Return the verdict on each claim by name."""
    results = outcomes(done)
    return {claim.name: _judge(claim, done, results) for claim in CLAIMS}


def rewards_depth(results: dict[Comparison, Outcome | None]) -> bool | None:
    """Say whether any scheme gains from depth, ``None`` as long as none does and one is not run (rule 4)."""
    compared = [results[pair] for pair in DEPTH]
    if any(result is not None and result.better for result in compared):
        return True
    return None if None in compared else False


def _judge(claim: StudyClaim, done: Sequence[Record], results: dict[Comparison, Outcome | None]) -> Judgement:
    if claim.trains:
        return _judge_training(claim, done)
    if claim.words:
        return _judge_words(claim, done)
    compared = {pair: results[pair] for pair in claim.comparisons}
    details = "; ".join(judging.shown(pair, result) for pair, result in compared.items())
    missing = None in compared.values()
    answers = [judging.answer(result, pair in claim.or_equal) for pair, result in compared.items()]
    known = [result for result in compared.values() if result is not None]
    # the part that is least in favour of the claim
    number = judging.number(max(known, key=lambda result: result.difference.mean, default=None))
    verdict = judging.combined(answers, missing)
    if verdict == FAILS and not any(result.worse for result in known):
        verdict = EQUAL
    if claim.deeper and verdict != HOLDS:
        pays = rewards_depth(results)
        verdict = verdict if pays else NO_REWARD if pays is False else NOT_RUN
    return Judgement(verdict, number, details)


def _judge_training(claim: StudyClaim, done: Sequence[Record]) -> Judgement:
    answers: list[bool | None] = []
    details, failed, total = [], 0, 0
    for name, expected in claim.trains:
        model = MODELS[name]
        trains = judging.trains(done, model)
        answers.append(None if trains is None else trains is expected)
        curve = judging.curve(done, model)
        runs = len(curve.runs)
        details.append(f"{model.label}: {f'{judging.count(curve.failed, runs)} runs failed' if runs else NOT_RUN}")
        if not expected:
            failed, total = failed + curve.failed, total + len(curve.runs)
    verdict = judging.combined(answers, missing=None in answers)
    return Judgement(verdict, f"{judging.count(failed, total)} runs failed" if total else "-", "; ".join(details))


def _judge_words(claim: StudyClaim, done: Sequence[Record]) -> Judgement:
    assert claim.words is not None
    ours, theirs = (MODELS[name] for name in claim.words)
    compared = judging.words_better(done, ours, theirs)
    gate = judging.words_better(done, MODELS["pre_ln_18"], MODELS["pre_ln_6"])
    if compared is None or gate is None:
        return Judgement(NOT_RUN, "-")
    better, difference = compared
    number = f"{100 * difference:+.1f} points"
    details = f"{ours.label} minus {theirs.label}: {number} of the products of long words"
    if gate[0] is not True:
        return Judgement(NO_REWARD, number, details)
    return Judgement({True: HOLDS, False: FAILS, None: OPEN}[better], number, details)
