"""How phrases and clauses are spelled in English and in German.

A clause holds no order of words. English and German spell it from the same parts, and that is why the German sentence
follows from the English one: "you" is always "du", the simple past is the German perfect ("bought" is "hat gekauft")
but for "was" and "had", and adverbials have one fixed place.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grammar.lexicon import ADJECTIVES, COPULA, EMPTY, NOUNS, Noun, Pair, Verb, class_set, rows, s_form

PERSON = class_set("person")
CASES = ("nom", "acc", "dat", "gen")
AGREEMENTS = ("1s", "2s", "3s", "1p", "3p")  # ich, du, er, wir, sie


def by(keys: Sequence[str], forms: str) -> dict[str, str]:
    """Return the forms of a text, which are separated by blanks, by their keys."""
    return dict(zip(keys, forms.split(), strict=True))


# The outer keys are the genders; "p" is the plural of every gender.
STRONG_ENDINGS = {
    "m": by(CASES, "er en em es"),
    "f": by(CASES, "e e er er"),
    "n": by(CASES, "es es em es"),
    "p": by(CASES, "e e en er"),
}
ARTICLES = {
    "m": by(CASES, "der den dem des"),
    "f": by(CASES, "die die der der"),
    "n": by(CASES, "das das dem des"),
    "p": by(CASES, "die die den der"),
}
# In these forms "ein" has no ending, and an adjective after it shows the gender.
UNMARKED = (("m", "nom"), ("n", "nom"), ("n", "acc"))

# Name, English singular and plural, German stem, and the kind of the endings of adjectives after it. "no" stands with
# a negated verb only: "does not see a dog", "sieht keinen Hund".
Determiner = namedtuple("Determiner", "singular plural stem kind")
DETERMINER_TABLE = """
the    the    the    d     weak
this   this   these  dies  weak
every  every  -      jed   weak
a      a      -      ein   mixed
no     a      -      kein  mixed
bare   -      -      -     strong
many   -      many   viel  strong
two    -      two    zwei  strong
three  -      three  drei  strong
my     my     my     mein  mixed
your   your   your   dein  mixed
his    his    his    sein  mixed
her    her    her    ihr   mixed
our    our    our    unser  mixed
their  their  their  ihr   mixed
"""
DETERMINERS = {name: Determiner(*columns) for name, *columns in rows(DETERMINER_TABLE)}
POSSESSIVES = ("my", "your", "his", "her", "our", "their")
INDEFINITE = ("a", "bare", "many", "two", "three")

# Subject and object in English; nominative, accusative and dative in German; person and number.
PRONOUN_TABLE = """
I     me    ich  mich  mir    1s
you   you   du   dich  dir    2s
he    him   er   ihn   ihm    3s
she   her   sie  sie   ihr    3s
we    us    wir  uns   uns    1p
they  them  sie  sie   ihnen  3p
"""


@dataclass(frozen=True)
class NounPhrase:
    """A noun phrase or pronoun with its forms, and what the other words of a clause depend on."""

    en: str
    en_object: str
    de: dict[str, str]  # by case
    agreement: str  # person and number
    head: str  # the English noun
    kind: str = "definite"  # or indefinite, pronoun, no (the negation is in "kein")
    gender: str = ""  # of a German relative pronoun; p is the plural
    classes: frozenset[str] = PERSON


PRONOUNS = [
    NounPhrase(subject, other, dict(zip(CASES, forms, strict=False)), agreement, subject, "pronoun")
    for subject, other, *forms, agreement in rows(PRONOUN_TABLE)
]


def join(words: Iterable[str]) -> str:
    """Join the words that are not empty by single blanks."""
    return " ".join(word for word in words if word)


def prepositional(preposition: str, phrase: str) -> str:
    """Join a German preposition and its phrase, contracted before the article: im Garten."""
    contracted = {"in": "im", "an": "am", "von": "vom"}
    return re.sub(r"^(in|an|von) dem\b", lambda match: contracted[match[1]], f"{preposition} {phrase}")


def determiner(name: str, gender: str, case: str) -> str:
    """Return the German form of a determiner in a gender (or p for the plural) and a case; empty for a bare noun."""
    _, _, stem, kind = DETERMINERS[name]
    if stem == "d":
        return ARTICLES[gender][case]
    if stem in ("", "zwei", "drei") or (kind == "mixed" and (gender, case) in UNMARKED):
        return stem
    return stem + STRONG_ENDINGS[gender][case]


def adjective_ending(kind: str, gender: str, case: str) -> str:
    """Return the German ending of an adjective after a determiner of the kind weak, mixed or strong."""
    unmarked = (gender, case) in UNMARKED
    if (kind == "mixed" and unmarked) or (kind == "strong" and (case != "gen" or gender in "fp")):
        return STRONG_ENDINGS[gender][case]
    return "e" if unmarked or (gender == "f" and case in ("nom", "acc")) else "en"


def english_article(noun: Noun, name: str, number: str, next_word: str, owner: NounPhrase | None) -> str:
    """Return what opens an English noun phrase: an owner, or a determiner that fits the next word ("a" or "an")."""
    if owner:
        return owner.en + ("'" if owner.agreement == "3p" and owner.en.endswith("s") else "'s")
    if number == "p":
        return DETERMINERS[name].plural
    if name == "no" and noun.mass:
        return ""
    article = DETERMINERS[name].singular
    return "an" if article == "a" and next_word[0] in "aeiou" else article


def noun_phrase(
    noun: str, name: str = "the", number: str = "s", adjectives: Sequence[str] = (), owner: NounPhrase | None = None
) -> NounPhrase:
    """Build a noun phrase; with an owner: "the teacher's old dog", "der alte Hund des Lehrers".

    Args:
        noun: a key of ``NOUNS``.
        name: a key of ``DETERMINERS``.
        number: s or p.
        adjectives: keys of ``ADJECTIVES``.
        owner: whose it is.
    """
    entry = NOUNS[noun]
    gender, word = (entry.gender, entry.en) if number == "s" else ("p", entry.plural)
    words = [*adjectives, word]
    text = join([english_article(entry, name, number, words[0], owner), *words])
    forms = {}
    for case in CASES:
        ending = adjective_ending(DETERMINERS[name].kind, gender, case)
        inflected = [ADJECTIVES[adjective].stem + ending for adjective in adjectives]
        genitive = owner.de["gen"] if owner else ""
        forms[case] = join([determiner(name, gender, case), *inflected, entry.german(number, case), genitive])
    kind = "no" if name == "no" else "indefinite" if name in INDEFINITE else "definite"
    return NounPhrase(text, text, forms, "3" + number, noun, kind, gender, entry.classes)


BE = {"present": by(AGREEMENTS, "am are is are are"), "past": by(AGREEMENTS, "was were was were were")}
IRREGULAR = {
    "sein": by(AGREEMENTS, "bin bist ist sind sind"),
    "wissen": by(AGREEMENTS, "weiß weißt weiß wissen wissen"),
}
# All other verbs use the perfect for the past.
PRETERITE = {
    "sein": by(AGREEMENTS, "war warst war waren waren"),
    "haben": by(AGREEMENTS, "hatte hattest hatte hatten hatten"),
}

# Name, English auxiliary, English verb before "to", its past if the modal is in the past, the key of TIMES for an
# adverbial, and the German forms by person and number.
Modal = namedtuple("Modal", "auxiliary verb past time german")
MODAL_TABLE = """
can         can     -     -       future  kann kannst kann können können
must        must    -     -       future  muss musst muss müssen müssen
may         may     -     -       future  darf darfst darf dürfen dürfen
will        will    -     -       future  werde wirst wird werden werden
should      should  -     -       future  sollte solltest sollte sollten sollten
would_like  would   like  -       future  möchte möchtest möchte möchten möchten
want        -       want  -       future  will willst will wollen wollen
could       could   -     -       past    konnte konntest konnte konnten konnten
wanted      -       want  wanted  past    wollte wolltest wollte wollten wollten
had         -       have  had     past    musste musstest musste mussten mussten
"""
MODALS = {
    name: Modal(*columns, dict(zip(AGREEMENTS, forms, strict=True)))
    for name, *columns, forms in ([*row[:5], row[5:]] for row in rows(MODAL_TABLE))
}


@dataclass(frozen=True)
class Clause:
    """A clause without its order of words: ``english`` and ``german`` spell it."""

    subject: NounPhrase
    verb: Verb
    tense: str = "present"  # or past, perfect, or a key of MODALS
    objects: tuple[NounPhrase, ...] = ()
    negated: bool = False
    mid: Pair = EMPTY  # an adverb such as often
    time: Pair = EMPTY
    extras: tuple[Pair, ...] = ()  # prepositional phrases, or the predicate of "be"
    front: Pair = EMPTY  # an adverbial, a subordinate clause or a question word
    gap: bool = False  # the object stands outside, as a relative pronoun or question word
    relative: Pair = EMPTY  # describes the last object


def english_verb(clause: Clause, support: bool) -> Pair:
    """Return the English auxiliary (it may be empty) and the rest; with support, "do" fills an empty auxiliary."""
    verb, agreement, past = clause.verb, clause.subject.agreement, clause.tense == "past"
    base, past_word, rest = verb.en, verb.past, ""
    if clause.tense == "perfect":
        return ("has" if agreement == "3s" else "have"), verb.participle
    if clause.tense in MODALS:
        modal = MODALS[clause.tense]
        if modal.auxiliary:
            return modal.auxiliary, f"{modal.verb} to {base}" if modal.verb else base
        base, past_word, past, rest = modal.verb, modal.past, bool(modal.past), f" to {base}"
    elif verb is COPULA:
        return BE[clause.tense][agreement], ""
    if support:
        return ("did" if past else "does" if agreement == "3s" else "do"), base + rest
    return "", (past_word if past else s_form(base) if agreement == "3s" else base) + rest


def english(clause: Clause, mode: str = "main") -> str:
    """Spell a clause in English.

    Args:
        clause: what to spell.
        mode: main, question, final (subordinate), shared or relative (without a subject), or infinitive.
    """
    objects = [] if clause.gap else [phrase.en_object for phrase in clause.objects]
    pronoun_first = clause.verb.movable and objects and clause.objects[0].kind == "pronoun"
    complement = [*objects, clause.verb.tail] if pronoun_first else [clause.verb.tail, *objects]
    after = [*complement, *(extra for extra, _ in clause.extras), clause.relative[0], clause.time[0]]
    if mode == "infinitive":
        return join(["not" if clause.negated else "", "to", clause.verb.en, *after])
    auxiliary, rest = english_verb(clause, clause.negated or mode == "question")
    if clause.negated:
        auxiliary = "cannot" if auxiliary == "can" else f"{auxiliary} not"
    subject = "" if mode in ("shared", "relative") else clause.subject.en
    order = [auxiliary, subject] if mode == "question" else [subject, auxiliary]
    return join([clause.front[0], *order, clause.mid[0], rest, *after])


def conjugate(infinitive: str, third: str, agreement: str) -> str:
    """Return a German finite present form, without a separable prefix."""
    if infinitive in IRREGULAR:
        return IRREGULAR[infinitive][agreement]
    if agreement == "2s":  # it shares the changed vowel with the third person: er gibt, du gibst
        return third if re.search(r"[sßz]t$", third) else third.removesuffix("t") + "st"
    return {"1s": re.sub(r"e?n$", "", infinitive) + "e", "3s": third}.get(agreement, infinitive)


def german_verb(clause: Clause) -> Pair:
    """Return the German finite verb, and what stands at the end of a main clause."""
    verb, agreement = clause.verb, clause.subject.agreement
    if clause.tense == "present":
        return conjugate(verb.de, verb.third, agreement), verb.prefix
    if clause.tense in MODALS:
        return MODALS[clause.tense].german[agreement], verb.prefix + verb.de
    if clause.tense == "past" and verb.de in PRETERITE:
        return PRETERITE[verb.de][agreement], ""
    return conjugate(verb.auxiliary, "hat", agreement), verb.de_participle


def middle_field(clause: Clause) -> list[str]:
    """Return what stands between the two parts of the German verb, in its order."""
    pronouns, full, rest = [], [], []
    merged = any(phrase.kind == "no" for phrase in clause.objects)  # the negation is in "kein"
    adverb = "nicht" if clause.negated and not merged else clause.mid[1]
    cases = ["dat", "acc"] if clause.verb.frame == "give" else [clause.verb.frame]
    for phrase, case in zip(() if clause.gap else clause.objects, cases, strict=False):
        if ":" in case:
            preposition, case = case.split(":")
            rest.append(prepositional(preposition, phrase.de[case]))
        elif phrase.kind == "pronoun":
            pronouns.append(phrase.de[case])
        elif phrase.kind == "definite":
            full.append(phrase.de[case])
        else:  # adverbs follow definite objects and precede the first other one
            full += [adverb, phrase.de[case]]
            adverb = ""
    return [*pronouns, clause.time[1], *full, adverb, *rest, *(extra for _, extra in clause.extras)]


def german(clause: Clause, mode: str = "main") -> str:
    """Spell a clause in German, in the modes of ``english``; a comma is a word until the sentence is complete."""
    finite, end = german_verb(clause)
    middle, verb = middle_field(clause), clause.verb
    subject = clause.subject.de["nom"]
    if mode == "infinitive":
        order = [*middle, f"{verb.prefix}zu{verb.de}" if verb.prefix else f"zu {verb.de}"]
    elif mode in ("final", "relative"):
        closing = end + finite if clause.tense == "present" else join([end, finite])
        order = [subject if mode == "final" else "", *middle, closing]
    elif mode == "shared":
        order = [finite, *middle, end]
    elif mode == "question" or clause.front[1]:
        order = [clause.front[1], finite, subject, *middle, end]
    else:
        order = [subject, finite, *middle, end]
    relative = [",", clause.relative[1], ","] if clause.relative[1] else []
    return join([*order, *relative])


def relative_clause(head: NounPhrase, clause: Clause) -> Pair:
    """Spell a relative clause about head, which is the object of the clause if that has a gap, else its subject."""
    person = "person" in head.classes
    if not clause.gap:
        word, german_word = "who" if person else "that", ARTICLES[head.gender]["nom"]
        return f"{word} {english(clause, 'relative')}", f"{german_word} {german(clause, 'relative')}"
    preposition, _, case = clause.verb.frame.rpartition(":")
    pronoun = "denen" if head.gender == "p" and case == "dat" else ARTICLES[head.gender][case]
    german_text = join([preposition, pronoun, german(clause, "final")])
    return f"{'whom' if person else 'that'} {english(clause, 'final')}", german_text


def sentence(text: str, mark: str = ".") -> str:
    """Complete a sentence: attach and merge the commas, capitalize, and end with the punctuation mark."""
    text = re.sub(r"(?: ,)+", ",", text).removesuffix(",")
    return text[0].upper() + text[1:] + mark
