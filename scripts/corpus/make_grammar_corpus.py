#!/usr/bin/env python3
"""Write an English-German parallel corpus drawn from a small grammar.

    make_grammar_corpus.py --out DIR [--train N] [--valid N] [--test N] [--seed S]

Both sides of a pair are spelled from one clause, so that the German sentence follows from the English one. The same
seed gives the same bytes everywhere. The folder ``grammar`` has the words, and it spells and draws clauses; this file
joins the clauses to sentences, and the sentences to a corpus.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from grammar.drawing import chance, pick, random_clause, random_subject
from grammar.lexicon import ALL_VERBS, EMPTY, TIMES, Pair, Verb, rows
from grammar.spelling import PERSON, Clause, NounPhrase, english, german, join, sentence

MAX_PAIRS = 500_000
PATIENCE = 2_000  # attempts in a row that give nothing new
WHO = NounPhrase("who", "whom", {"nom": "wer", "acc": "wen", "dat": "wem"}, "3s", "who")

# Verbs with a clause, in the columns of VERB_TABLE. The frame is the German word that opens the clause; "zu" stands for
# an infinitive.
CLAUSE_VERB_TABLE = """
know/knew/known  wissen/weiß/gewusst                 dass  person  -  -
say/said/said    sagen/sagt/gesagt                   dass  person  -  -
believe          glauben/glaubt/geglaubt             dass  person  -  -
ask              fragen/fragt/gefragt                ob    person  -  -
know/knew/known  wissen/weiß/gewusst                 ob    person  -  -
try              versuchen/versucht/versucht         zu    person  -  -
hope             hoffen/hofft/gehofft                zu    person  -  -
promise          versprechen/verspricht/versprochen  zu    person  -  -
"""
CLAUSE_VERBS = [Verb(*row) for row in rows(CLAUSE_VERB_TABLE)]
# English and German, and the keys of TENSES for the main clause and for the subordinate clause.
CONJUNCTIONS = (
    ("because", "weil", "all", "all"),
    ("although", "obwohl", "all", "all"),
    ("if", "wenn", "now", "present"),
    ("while", "während", "now", "meanwhile"),
    ("before", "bevor", "now", "meanwhile"),
)
# English and German, and the key of TENSES for the question.
ADVERBIAL_QUESTIONS = (("why", "warum", "all"), ("when", "wann", "when"), ("where", "wo", "where"))


def statement(rng: random.Random) -> Pair:
    """Draw a main clause; the subject or an adverbial comes first."""
    clause = random_clause(rng, fronted=chance(rng, 0.3))
    return sentence(english(clause)), sentence(german(clause))


def question(rng: random.Random) -> Pair:
    """Draw a yes-no question, or one that asks for an adverbial, the subject, or the object."""
    kind = pick(rng, ("yes-no", "yes-no", "adverbial", "subject", "object"))
    if kind == "subject":
        clause = random_clause(rng, subject=WHO)
        return sentence(english(clause), "?"), sentence(german(clause), "?")
    if kind == "adverbial":
        word, german_word, tenses = pick(rng, ADVERBIAL_QUESTIONS)
        verb = pick(rng, [verb for verb in ALL_VERBS if word != "where" or "place" in verb.extras])
        clause = random_clause(rng, verb, tenses=tenses, front=(word, german_word), inverted=True)
    elif kind == "object":
        verb = pick(rng, [verb for verb in ALL_VERBS if verb.frame not in ("", "give")])
        preposition, _, case = verb.frame.rpartition(":")
        front = ("whom", join([preposition, WHO.de[case]])) if "person" in verb.objects else ("what", "was")
        clause = random_clause(rng, verb, front=front, gap=True, inverted=True)
    else:
        clause = random_clause(rng, inverted=True)
    return sentence(english(clause, "question"), "?"), sentence(german(clause, "question"), "?")


def with_adverbial_clause(rng: random.Random) -> Pair:
    """Draw a main clause and a subordinate clause with a conjunction, in either order."""
    word, german_word, main_tenses, tenses = pick(rng, CONJUNCTIONS)
    clause = random_clause(rng, tenses=tenses)
    subordinate = f"{word} {english(clause, 'final')}"
    german_subordinate = f"{german_word} {german(clause, 'final')}"
    if chance(rng, 0.45):
        main = random_clause(rng, tenses=main_tenses, front=(f"{subordinate} ,", f"{german_subordinate} ,"))
        return sentence(english(main)), sentence(german(main))
    main = random_clause(rng, tenses=main_tenses)
    return sentence(f"{english(main)} {subordinate}"), sentence(f"{german(main)} , {german_subordinate}")


def with_object_clause(rng: random.Random) -> Pair:
    """Draw a verb such as "know" with a clause, or one such as "try" with an infinitive."""
    verb = pick(rng, CLAUSE_VERBS)
    tense = pick(rng, ("present", "present", "perfect", "past"))
    negated = chance(rng, 0.1) or (verb.frame == "ob" and verb.de == "wissen")  # one does not know whether
    subject = random_subject(rng, PERSON, "definite" if negated else "")
    front = pick(rng, TIMES["past"]) if tense == "past" else EMPTY
    main = Clause(subject, verb, tense, negated=negated, front=front)
    if verb.frame == "zu":
        return with_infinitive(rng, main, "", "")
    clause = random_clause(rng)
    word = "that" if verb.frame == "dass" else "whether"
    german_text = f"{german(main)} , {verb.frame} {german(clause, 'final')}"
    return sentence(f"{english(main)} {word} {english(clause, 'final')}"), sentence(german_text)


def with_purpose(rng: random.Random) -> Pair:
    """Draw a main clause with "in order to", "um ... zu"."""
    main = random_clause(rng, pick(rng, ALL_VERBS), random_subject(rng, PERSON, "definite"))
    return with_infinitive(rng, main, "in order", "um")


def with_infinitive(rng: random.Random, main: Clause, word: str, german_word: str) -> Pair:
    """Add an infinitive, which shares the subject of the main clause and follows the word."""
    clause = replace(random_clause(rng, pick(rng, ALL_VERBS), main.subject, "timeless"), mid=EMPTY)
    text = join([english(main), word, english(clause, "infinitive")])
    return sentence(text), sentence(join([german(main), ",", german_word, german(clause, "infinitive")]))


def coordination(rng: random.Random) -> Pair:
    """Draw two main clauses; after "and" the second one may share the subject."""
    first = random_clause(rng)
    verbs = [verb for verb in ALL_VERBS if verb.subjects & first.subject.classes]
    if verbs and chance(rng, 0.5):
        second = random_clause(rng, pick(rng, verbs), first.subject)
        text = f"{english(first)} and {english(second, 'shared')}"
        return sentence(text), sentence(f"{german(first)} und {german(second, 'shared')}")
    second = random_clause(rng)
    word, german_word = pick(rng, (("and", "und"), (", but", ", aber")))
    text = f"{english(first)} {word} {english(second)}"
    return sentence(text), sentence(f"{german(first)} {german_word} {german(second)}")


# The kinds of sentences with their weights.
KINDS: tuple[tuple[int, Callable[[random.Random], Pair]], ...] = (
    (54, statement),
    (18, question),
    (10, with_adverbial_clause),
    (10, with_object_clause),
    (2, with_purpose),
    (6, coordination),
)


def derive(rng: random.Random) -> Pair:
    """Draw one pair of sentences from the grammar."""
    return pick(rng, [kind for weight, kind in KINDS for _ in range(weight)])(rng)


class CorpusError(Exception):
    """The corpus cannot be made as asked for."""


def generate(count: int, seed: int) -> list[Pair]:
    """Draw pairs that all differ in both sides and have 4 to 22 words on both sides.

    Args:
        count: how many pairs to draw.
        seed: 0 or larger.

    Raises:
        CorpusError: the grammar has no more pairs that differ.
    """
    rng = random.Random(seed)
    drawn: list[Pair] = []
    sources: set[str] = set()
    targets: set[str] = set()
    failures = 0
    while len(drawn) < count:
        source, target = derive(rng)
        fits = all(4 <= len(text.split()) <= 22 for text in (source, target))
        if fits and source not in sources and target not in targets:
            sources.add(source)
            targets.add(target)
            drawn.append((source, target))
            failures = 0
            continue
        failures += 1
        if failures == PATIENCE:
            raise CorpusError(
                f"{count} different sentences were asked for, but after {len(drawn)} the grammar gave "
                f"nothing new in {PATIENCE} attempts; ask for fewer"
            )
    return drawn


def make_corpus(sizes: dict[str, int], seed: int) -> dict[str, list[Pair]]:
    """Draw the splits: test and valid come first, so that they do not depend on the size of train.

    Args:
        sizes: the number of pairs in train, valid and test.
        seed: 0 or larger.

    Returns:
        The pairs of each split.

    Raises:
        CorpusError: a size or the seed is out of range, or the grammar has no more pairs that differ.
    """
    for name, size in sizes.items():
        if size < 1:
            raise CorpusError(f"--{name} {size}: every split needs at least 1 sentence")
    total = sum(sizes.values())
    if total > MAX_PAIRS:
        raise CorpusError(f"{total} sentences were asked for, but {MAX_PAIRS} is the most; ask for fewer")
    if seed < 0:
        raise CorpusError(f"--seed {seed}: use 0 or a positive number")  # Random(-1) would repeat Random(1)
    drawn = iter(generate(total, seed))
    return {name: [next(drawn) for _ in range(sizes[name])] for name in ("test", "valid", "train")}


def write_corpus(corpus: dict[str, list[Pair]], folder: Path) -> None:
    """Write SPLIT.en and SPLIT.de, first all under temporary names, and then rename them.

    Args:
        corpus: the pairs of each split.
        folder: where the files go; it is made if it is not there.

    Raises:
        CorpusError: the folder or a file cannot be written; no temporary file is left.
    """
    written: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, drawn in corpus.items():
            for side, language in enumerate(("en", "de")):
                target = folder / f"{split}.{language}"
                temporary = folder / f".{target.name}.{os.getpid()}.tmp"
                with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
                    written.append((temporary, target))
                    stream.writelines(f"{pair[side]}\n" for pair in drawn)
        for temporary, target in written:
            os.replace(temporary, target)
    except OSError as error:
        message = f"cannot write to --out '{folder}' ({error}); choose a folder that you may write to"
        raise CorpusError(message) from error
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status, 2 for an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    parser = argparse.ArgumentParser(description="Write an English-German corpus drawn from a small grammar.")
    parser.add_argument("--train", type=int, default=24000, metavar="N", help="pairs to train on (24000)")
    parser.add_argument("--valid", type=int, default=500, metavar="N", help="pairs to validate on (500)")
    parser.add_argument("--test", type=int, default=1000, metavar="N", help="held-out test pairs (1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="0 or larger (1)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the six files")
    options = parser.parse_args(arguments)
    sizes = {"train": options.train, "valid": options.valid, "test": options.test}
    try:
        corpus = make_corpus(sizes, options.seed)
        write_corpus(corpus, options.out)
    except CorpusError as error:
        print(f"make_grammar_corpus.py: error: {error}", file=sys.stderr)
        return 2
    for split in sizes:
        print(f"{split}: {len(corpus[split])} pairs in {options.out / split}.en and .de")
    for source, target in corpus["train"][:5]:
        print(f"  {source}\n    {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
