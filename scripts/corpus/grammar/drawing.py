"""How phrases and clauses are drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

from grammar.lexicon import (
    ADJECTIVES,
    ALL_VERBS,
    COPULA,
    EMPTY,
    EVENT_VERBS,
    MID_ADVERBS,
    NOUNS,
    TIMES,
    Noun,
    Pair,
    Verb,
    class_set,
)
from grammar.spelling import (
    MODALS,
    PERSON,
    POSSESSIVES,
    PRONOUNS,
    Clause,
    NounPhrase,
    noun_phrase,
    prepositional,
    relative_clause,
)

T = TypeVar("T")


def weighted(weights: dict[str, int]) -> tuple[str, ...]:
    """Repeat each item as often as its weight says, so that ``pick`` chooses it that often."""
    return tuple(item for item, weight in weights.items() for _ in range(weight))


# The determiners of a noun by its number, or by a name that random_noun_phrase() is given; "own" is a possessive.
DETERMINER_CHOICE = {
    "s": weighted({"the": 6, "a": 5, "this": 1, "own": 3}),
    "p": weighted({"the": 5, "bare": 3, "this": 1, "own": 2, "many": 1, "two": 1, "three": 1}),
    "definite": weighted({"the": 5, "this": 1, "own": 3}),
    "mass": weighted({"bare": 3, "the": 1, "own": 1}),
    "no": weighted({"the": 2, "own": 1, "no": 2}),
    "place": weighted({"the": 8, "this": 1, "own": 1}),
    "described": ("the",),
}
# English and German prepositions, and the class of the places that they go with.
PLACES = (
    ("in", "in", class_set("inside")),
    ("at", "an", class_set("beside")),
    ("on", "auf", class_set("surface")),
    ("behind", "hinter", class_set("building")),
    ("in front of", "vor", class_set("building")),
)


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """Choose an item. Random.choice may differ between versions of Python; random() does not."""
    return items[int(rng.random() * len(items))]


def chance(rng: random.Random, probability: float) -> bool:
    """Return whether an event of this probability happens."""
    return rng.random() < probability


@cache
def nouns_of(classes: frozenset[str]) -> tuple[Noun, ...]:
    """Return the nouns that have one of the classes."""
    return tuple(noun for noun in NOUNS.values() if noun.classes & classes)


@cache
def adjectives_for(classes: frozenset[str]) -> tuple[str, ...]:
    """Return the adjectives that go with a noun of these classes."""
    return tuple(adjective.en for adjective in ADJECTIVES.values() if adjective.classes & classes)


def random_adjectives(rng: random.Random, noun: Noun) -> tuple[str, ...]:
    """Draw no adjective, one, or one and a colour."""
    if not chance(rng, 0.3):
        return ()
    fitting = adjectives_for(noun.classes)
    first = pick(rng, fitting)
    colours = [word for word in fitting if ADJECTIVES[word].position == "colour"]
    if ADJECTIVES[first].position == "first" and colours and chance(rng, 0.3):
        return first, pick(rng, colours)
    return (first,)


def with_companion(rng: random.Random, phrase: NounPhrase, avoid: Sequence[str]) -> NounPhrase:
    """Add a second phrase, without the nouns to avoid, to a person: "the boy and his dog", "the boy with a lamp"."""
    if chance(rng, 0.5):
        word, german_word, case = "and", "und", ""
        second = random_noun_phrase(rng, class_set("living"), "definite", avoid)
        phrase = replace(phrase, agreement="3p", gender="", classes=PERSON)
    else:
        word, german_word, case = "with", "mit", "dat"
        second = random_noun_phrase(rng, class_set("animal,item"), "", avoid)
    text = f"{phrase.en} {word} {second.en}"
    forms = {key: f"{form} {german_word} {second.de[case or key]}" for key, form in phrase.de.items()}
    return replace(phrase, en=text, en_object=text, de=forms)


def random_noun_phrase(
    rng: random.Random, classes: frozenset[str], choice: str = "", avoid: Sequence[str] = (), rich: bool = False
) -> NounPhrase:
    """Draw a noun phrase.

    Args:
        rng: draws the words.
        classes: the noun has one of them.
        choice: a key of ``DETERMINER_CHOICE``, or nothing for the determiners that the noun allows.
        avoid: nouns that must not be drawn.
        rich: the phrase may have an owner or a second noun phrase.
    """
    noun = pick(rng, [noun for noun in nouns_of(classes) if noun.en not in avoid])
    number = "p" if not noun.mass and chance(rng, 0.1 if choice == "place" else 0.3) else "s"
    name = pick(rng, DETERMINER_CHOICE[choice or ("mass" if noun.mass else number)])
    if name == "own":
        name = pick(rng, POSSESSIVES)
    adjectives = random_adjectives(rng, noun)
    avoid = (*avoid, noun.en)
    person = "person" in noun.classes
    owned = rich and name == "the" and not person and not noun.mass and chance(rng, 0.09)
    owner = random_noun_phrase(rng, PERSON, "definite", avoid) if owned else None
    phrase = noun_phrase(noun.en, name, number, adjectives, owner)
    if rich and person and phrase.kind == "definite" and chance(rng, 0.06):
        return with_companion(rng, phrase, avoid)
    return phrase


def random_pronoun(rng: random.Random, subject: NounPhrase | None = None) -> NounPhrase:
    """Draw a personal pronoun; as an object, one of another person than the subject "I", "you" or "we"."""
    person = subject.agreement[0] if subject and subject.agreement[0] != "3" else ""
    return pick(rng, [pronoun for pronoun in PRONOUNS if pronoun.agreement[0] != person])


def random_subject(
    rng: random.Random, classes: frozenset[str], choice: str = "", avoid: Sequence[str] = ()
) -> NounPhrase:
    """Draw a subject (arguments as in ``random_noun_phrase``): a pronoun if persons are allowed, or a noun phrase."""
    if "person" in classes and chance(rng, 0.3):
        return random_pronoun(rng)
    phrase = random_noun_phrase(rng, classes, choice, avoid, rich=True)
    if not choice and phrase.agreement == "3s" and chance(rng, 0.06):
        return noun_phrase(phrase.head, "every")
    return phrase


def random_place(rng: random.Random) -> Pair:
    """Draw a prepositional phrase that says where."""
    preposition, german_preposition, classes = pick(rng, PLACES)
    phrase = random_noun_phrase(rng, classes, "place", rich=True)
    return f"{preposition} {phrase.en}", prepositional(german_preposition, phrase.de["dat"])


EVERY_MODAL = dict.fromkeys(MODALS, 1)
# The tenses of a clause by what it is for, with their weights.
TENSES = {
    "all": weighted({"present": 12, "perfect": 5, "past": 5, **EVERY_MODAL}),
    "now": weighted({"present": 8, **{name: 1 for name in MODALS if MODALS[name].time == "future"}}),
    "present": ("present",),
    "meanwhile": ("present",),  # an event: no states, no negation, no "often"
    "timeless": weighted({"present": 2, "perfect": 1}),  # no adverbial of time, no relative clause
    "when": weighted({"present": 3, "past": 3, "can": 1, "must": 1, "will": 1, "should": 1, "could": 1}),
    "where": weighted({"present": 4, "perfect": 1, "past": 2, **EVERY_MODAL}),
}
NEVER_NEGATED = ("must", "may", "had")  # "must not" is not "nicht müssen"


def random_objects(rng: random.Random, clause: Clause, rich: bool) -> tuple[NounPhrase, ...]:
    """Draw the objects that the verb asks for; those of a negated verb are definite or have the article "no"."""
    verb, subject, objects = clause.verb, clause.subject, []
    if verb.frame == "give" and chance(rng, 0.4):
        objects.append(random_pronoun(rng, subject))
    elif verb.frame == "give":
        objects.append(random_noun_phrase(rng, PERSON, "definite" if clause.negated else "", [subject.head]))
    if "person" in verb.objects and verb.frame != "give" and rich and chance(rng, 0.3):
        objects.append(random_pronoun(rng, subject))
    elif verb.frame:
        article = "no" if verb.frame in ("give", "acc") else "definite"
        avoid = [subject.head, *(phrase.head for phrase in objects)]
        objects.append(random_noun_phrase(rng, verb.objects, article if clause.negated else "", avoid, rich))
    return tuple(objects)


def random_extras(rng: random.Random, verb: Verb, avoid: Sequence[str], place: bool) -> tuple[Pair, ...]:
    """Draw up to two of the phrases that the verb allows: for whom or with whom, and, if wanted, where."""
    extras = []
    for word, german_word, case in (("for", "für", "acc"), ("with", "mit", "dat")):
        if word in verb.extras and not extras and chance(rng, 0.12):
            phrase = random_noun_phrase(rng, PERSON, "", avoid)
            extras.append((f"{word} {phrase.en}", f"{german_word} {phrase.de[case]}"))
    if place and "place" in verb.extras and chance(rng, 0.17):
        extras.append(random_place(rng))
    return tuple(extras)


def random_relative(rng: random.Random, head: NounPhrase) -> Pair:
    """Draw a relative clause about a noun phrase, which is its subject or its object."""
    by_object = [verb for verb in ALL_VERBS if verb.objects & head.classes and verb.frame != "give"]
    by_subject = [verb for verb in ALL_VERBS if verb.subjects & head.classes]
    if by_subject and chance(rng, 0.6):
        return relative_clause(head, random_clause(rng, pick(rng, by_subject), head, "timeless"))
    subject = random_subject(rng, PERSON, "definite", [head.head])
    return relative_clause(head, random_clause(rng, pick(rng, by_object), subject, "timeless", gap=True))


def random_verb_and_tense(rng: random.Random, verb: Verb | None, tenses: str, event: bool) -> tuple[Verb, str]:
    """Draw a verb, if none is given, and a tense; an event has no "be" and no state such as "love"."""
    if verb is None:
        verb = COPULA if not event and chance(rng, 0.09) else pick(rng, EVENT_VERBS if event else ALL_VERBS)
    if "state" not in verb.extras:
        return verb, pick(rng, TENSES[tenses])
    tense = pick(rng, ("present", "past") if tenses == "all" else TENSES[tenses])
    return verb, "past" if tense == "past" else "present"


def random_time(rng: random.Random, verb: Verb, tense: str, negated: bool, fronted: bool, inverted: bool) -> Pair:
    """Draw an adverbial of time or none; the arguments are those of ``random_clause``."""
    # With "nicht", the order of the adverbials would not be clear, so that the time can only stand in front.
    if tense == "perfect" or "state" in verb.extras or (negated and not fronted):
        return EMPTY
    # Without "did", only the time shows that "read" or "put" is the past.
    needed = fronted or (tense == "past" and not inverted)
    if not needed and not chance(rng, 0.25):
        return EMPTY
    return pick(rng, TIMES[MODALS[tense].time if tense in MODALS else tense])


def random_front(rng: random.Random, verb: Verb, time: Pair, keep_time: bool) -> tuple[Pair, Pair, bool]:
    """Choose a place or the time for the front; return it, the time behind it, and whether a place may follow."""
    if "place" in verb.extras and chance(rng, 0.4):
        return random_place(rng), time if keep_time else EMPTY, False
    return time, EMPTY, True


def random_described_subject(rng: random.Random, verb: Verb) -> NounPhrase:
    """Draw a subject with a relative clause."""
    head = random_noun_phrase(rng, verb.subjects, "described")
    relative, german_relative = random_relative(rng, head)
    return replace(head, en=f"{head.en} {relative}", de={"nom": f"{head.de['nom']} , {german_relative} ,"})


def with_complements(rng: random.Random, clause: Clause, describable: bool, place: bool) -> Clause:
    """Draw what the verb still needs: the adjective after "be", or objects and what stands after them.

    Args:
        rng: draws the words.
        clause: the clause without them.
        describable: whether the last object may have a relative clause, which takes the place of the extras.
        place: whether the extras may have a place.
    """
    verb, subject = clause.verb, clause.subject
    if verb is COPULA:
        adjective = ADJECTIVES[pick(rng, adjectives_for(subject.classes))]
        return replace(clause, extras=((adjective.en, adjective.de),))
    described = describable and verb.frame != "" and chance(rng, 0.11)
    objects = () if clause.gap else random_objects(rng, clause, rich=not described)
    if described and objects[-1].en.split()[0] not in POSSESSIVES:
        return replace(clause, objects=objects, relative=random_relative(rng, objects[-1]))
    avoid = [subject.head, *(phrase.head for phrase in objects)]
    return replace(clause, objects=objects, extras=random_extras(rng, verb, avoid, place))


def random_clause(
    rng: random.Random,
    verb: Verb | None = None,
    subject: NounPhrase | None = None,
    tenses: str = "all",
    front: Pair = EMPTY,
    fronted: bool = False,
    gap: bool = False,
    inverted: bool = False,
) -> Clause:
    """Draw a clause of which some parts may be given.

    Args:
        rng: draws the words.
        verb: the verb.
        subject: the subject.
        tenses: a key of ``TENSES``.
        front: a question word or a subordinate clause.
        fronted: whether an adverbial stands in front.
        gap: whether the object is left out.
        inverted: whether it is a question with "do".
    """
    verb, tense = random_verb_and_tense(rng, verb, tenses, fronted or tenses in ("now", "meanwhile"))
    nested, meanwhile, asked = tenses == "timeless", tenses == "meanwhile", inverted and front != EMPTY
    negated = not (inverted or meanwhile or tense in NEVER_NEGATED) and chance(rng, 0.13)
    mid, time, place = EMPTY, EMPTY, not asked
    if not (negated or meanwhile or fronted or verb is COPULA) and chance(rng, 0.12):
        mid = pick(rng, MID_ADVERBS.get(tense, (EMPTY,)))
    if not (nested or asked or mid[0]):
        time = random_time(rng, verb, tense, negated, fronted, inverted)
    if fronted:
        front, time, place = random_front(rng, verb, time, tense == "past" and not negated)
    if subject is None and verb is not COPULA and not nested and chance(rng, 0.05):
        subject = random_described_subject(rng, verb)
    elif subject is None:
        # a negation of "every man" or "a man" would have two meanings
        subject = random_subject(rng, verb.subjects, "definite" if negated or mid[0] == "never" else "")
    clause = Clause(subject, verb, tense, (), negated, mid, time, (), front, gap)
    return with_complements(rng, clause, not (nested or gap or time[0]), place)
