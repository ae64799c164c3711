#!/usr/bin/env python3
"""Write an English-German parallel corpus drawn from a small synchronous grammar.

Both sides of a pair are spelled out from one abstract clause, so that the German sentence follows
from the English one: "you" is always "du", the simple past always becomes the perfect ("bought" is
"hat gekauft"), adverbials have one fixed place, and so on. The same seed gives the same bytes
everywhere. The file has four parts: lexicon, morphology, grammar, and the program itself.

    python scripts/corpus/make_grammar_corpus.py --out data/grammar
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
Pair = tuple[str, str]  # English, German
EMPTY: Pair = ("", "")

# ------------------------------------------------------------------------------------- lexicon
# Tables: entries end with ";" or the line, columns are split by blanks, "-" is an empty column.

# English[/plural] German/plural gender genitive-ending classes. "n" and "en" mark weak nouns (den
# Jungen). Classes: p person, a animal, r to read, h to write, g printed goods, f food, e food without a
# plural, d drink, t thing, c to carry, o to open, s to switch, v to repair, u to sit on, w to wear,
# l place, i one is in it, q one is at it, b building.
NOUN_TABLE = """
man/men Mann/Männer m es p; woman/women Frau/Frauen f - p; boy Junge/Jungen m n p
girl Mädchen/Mädchen n s p; child/children Kind/Kinder n es p; teacher Lehrer/Lehrer m s p
doctor Arzt/Ärzte m es p; student Student/Studenten m en p; neighbor Nachbar/Nachbarn m n p
friend Freund/Freunde m es p; uncle Onkel/Onkel m s p; brother Bruder/Brüder m s p
sister Schwester/Schwestern f - p; mother Mutter/Mütter f - p; father Vater/Väter m s p
king König/Könige m s p; queen Königin/Königinnen f - p; farmer Bauer/Bauern m n p
thief/thieves Dieb/Diebe m es p; actress Schauspielerin/Schauspielerinnen f - p; guest Gast/Gäste m es p
dog Hund/Hunde m es a; cat Katze/Katzen f - a; horse Pferd/Pferde n es a; bird Vogel/Vögel m s a
mouse/mice Maus/Mäuse f - a; cow Kuh/Kühe f - a; goose/geese Gans/Gänse f - a; lion Löwe/Löwen m n a
bear Bär/Bären m en a; book Buch/Bücher n es rhg; letter Brief/Briefe m es rh
newspaper Zeitung/Zeitungen f - rg; poem Gedicht/Gedichte n es rh; apple Apfel/Äpfel m s f
cake Kuchen/Kuchen m s f; egg Ei/Eier n s f; orange Orange/Orangen f - f; potato Kartoffel/Kartoffeln f - f
sausage Wurst/Würste f - f; bread/- Brot/- n es e; cheese/- Käse/- m s e; water/- Wasser/- n s d
milk/- Milch/- f - d; coffee/- Kaffee/- m s d; tea/- Tee/- m s d; beer/- Bier/- n es d
lamp Lampe/Lampen f - tcs; key Schlüssel/Schlüssel m s tc; ball Ball/Bälle m es tc
bag Tasche/Taschen f - tco; bicycle Fahrrad/Fahrräder n es tcv; picture Bild/Bilder n es tc
clock Uhr/Uhren f - tcv; chair Stuhl/Stühle m es tcu; knife/knives Messer/Messer n s tc
cup Tasse/Tassen f - tc; gift Geschenk/Geschenke n es tco; flower Blume/Blumen f - tc
computer Computer/Computer m s tcsv; suitcase Koffer/Koffer m s tco; box Kiste/Kisten f - tco
radio/radios Radio/Radios n s tcsv; car Auto/Autos n s tv; table Tisch/Tische m es tu
sofa Sofa/Sofas n s tu; window Fenster/Fenster n s to; door Tür/Türen f - to; hat Hut/Hüte m es w
coat Mantel/Mäntel m s w; shirt Hemd/Hemden n es w; shoe Schuh/Schuhe m s w; garden Garten/Gärten m s li
kitchen Küche/Küchen f - li; house Haus/Häuser n es lib; school Schule/Schulen f - lib
city Stadt/Städte f - li; park Park/Parks m s li; room Zimmer/Zimmer n s li; office Büro/Büros n s li
museum Museum/Museen n s lib; church Kirche/Kirchen f - lib; station Bahnhof/Bahnhöfe m s lq
river Fluss/Flüsse m es lq; lake See/Seen m s lq
"""

# English German[/inflected stem] classes it goes with. The first line may stand before a colour (the second).
ADJECTIVE_TABLE = """
old alt partwle; young jung pa; big groß atfl; small klein patfwl; new neu rtwl; beautiful schön atwl
black schwarz atw; white weiß atw; red rot tw; blue blau tw
good gut prfedw; friendly freundlich pa; clever klug pa; sad traurig pah; tired müde pa; hungry hungrig pa
rich reich p; famous berühmt prl; expensive teuer/teur twrfed; dirty schmutzig twla; fresh frisch fed
cold kalt fd; warm warm fd; dark dunkel/dunkl l; interesting interessant rl; strange seltsam partw
long lang r
"""

# English[/past/participle] German/third-person/participle subjects frame objects extras. "pick|up" lets a
# pronoun in ("picks him up"), "look_at" does not; "auf|machen" is separable; "*" marks a perfect with
# "sein". Frames: - (no object), acc, dat, give (dative and accusative), or preposition:case. Extras:
# l (a place), c ("with" somebody), f ("for" somebody); s marks a state, which is not tied to a time.
VERB_TABLE = """
read/read/read lesen/liest/gelesen p acc r lc; write/wrote/written schreiben/schreibt/geschrieben p acc h lf
buy/bought/bought kaufen/kauft/gekauft p acc cfwgved lf; find/found/found finden/findet/gefunden p acc crw l
look_for suchen/sucht/gesucht p acc crwpa l; see/saw/seen sehen/sieht/gesehen pa acc pactb l
love lieben/liebt/geliebt p acc pa s; know/knew/known kennen/kennt/gekannt p acc pb s
visit besuchen/besucht/besucht p acc pb c; eat/ate/eaten essen/isst/gegessen pa acc fe l
drink/drank/drunk trinken/trinkt/getrunken p acc d lc; paint malen/malt/gemalt p acc pa lf
wash waschen/wäscht/gewaschen p acc w l; forget/forgot/forgotten vergessen/vergisst/vergessen p acc crw -
repair reparieren/repariert/repariert p acc v lc; ask fragen/fragt/gefragt p acc p -
steal/stole/stolen stehlen/stiehlt/gestohlen p acc cgv -; have/had/had haben/hat/gehabt p acc cav s
open auf|machen/macht/aufgemacht p acc o -; close zu|machen/macht/zugemacht p acc o -
turn|on ein|schalten/schaltet/eingeschaltet p acc s -
turn|off aus|schalten/schaltet/ausgeschaltet p acc s -; call an|rufen/ruft/angerufen p acc p -
invite ein|laden/lädt/eingeladen p acc p -; pick|up ab|holen/holt/abgeholt p acc p -
look_at an|sehen/sieht/angesehen pa acc pact l
bring|along/brought/brought mit|bringen/bringt/mitgebracht p acc cfaed f
put|on/put/put an|ziehen/zieht/angezogen p acc w -; sleep/slept/slept schlafen/schläft/geschlafen pa - - l
sing/sang/sung singen/singt/gesungen p - - lcf; dance tanzen/tanzt/getanzt p - - lcf
work arbeiten/arbeitet/gearbeitet p - - lcf; play spielen/spielt/gespielt pa - - lc
run/ran/run laufen/läuft/*gelaufen pa - - l; get|up/got/gotten auf|stehen/steht/*aufgestanden p - - -
fall_asleep/fell/fallen ein|schlafen/schläft/*eingeschlafen pa - - l
arrive an|kommen/kommt/*angekommen p - - c; come|back/came/come zurück|kommen/kommt/*zurückgekommen pa - - c
help helfen/hilft/geholfen p dat p l; thank danken/dankt/gedankt p dat p -
follow folgen/folgt/*gefolgt pa dat pa -; listen_to zu|hören/hört/zugehört p dat p l
give/gave/given geben/gibt/gegeben p give cfgw -; show/showed/shown zeigen/zeigt/gezeigt p give crwa l
send/sent/sent schicken/schickt/geschickt p give crw -; wait_for warten/wartet/gewartet p auf:acc p l
talk_to sprechen/spricht/gesprochen p mit:dat p l; dream_of träumen/träumt/geträumt p von:dat pa -
think_of/thought/thought denken/denkt/gedacht p an:acc pa -
"""

# Verbs that take a clause: the frame names the German word that opens it ("zu" stands for an infinitive).
CLAUSE_VERB_TABLE = """
know/knew/known wissen/weiß/gewusst p dass - -; say/said/said sagen/sagt/gesagt p dass - -
believe glauben/glaubt/geglaubt p dass - -; ask fragen/fragt/gefragt p ob - -
know/knew/known wissen/weiß/gewusst p ob - -; try versuchen/versucht/versucht p zu - -
hope hoffen/hofft/gehofft p zu - -; promise versprechen/verspricht/versprochen p zu - -
"""
COPULA_TABLE = "be/was/been sein/ist/*gewesen parftwl - - s"

# Subject, object, nominative, accusative, dative, agreement (person and number).
PRONOUN_TABLE = """
I me ich mich mir 1s; you you du dich dir 2s; he him er ihn ihm 3s
she her sie sie ihr 3s; we us wir uns uns 1p; they them sie sie ihnen 3p
"""

# name: English singular and plural (None: no such form), German stem, adjective endings after it.
POSSESSIVES = {"my": "mein", "your": "dein", "his": "sein", "her": "ihr", "our": "unser", "their": "ihr"}
DETERMINERS: dict[str, tuple[str | None, str | None, str, str]] = {
    "the": ("the", "the", "d", "weak"),
    "this": ("this", "these", "dies", "weak"),
    "every": ("every", None, "jed", "weak"),
    "a": ("a", None, "ein", "mixed"),
    "no": ("a", "", "kein", "mixed"),  # only with a negated verb: "does not see a dog", "sieht keinen Hund"
    "bare": ("", "", "", "strong"),
    "many": (None, "many", "viel", "strong"),
    "two": (None, "two", "zwei", "strong"),
    "three": (None, "three", "drei", "strong"),
    **{word: (word, word, german_word, "mixed") for word, german_word in POSSESSIVES.items()},
}

# name: English auxiliary, English words after it, its past form if it needs "do", German forms, times.
MODALS: dict[str, tuple[str, str, str, str, str]] = {
    "can": ("can", "", "", "kann kannst kann können", "future"),
    "must": ("must", "", "", "muss musst muss müssen", "future"),
    "may": ("may", "", "", "darf darfst darf dürfen", "future"),
    "will": ("will", "", "", "werde wirst wird werden", "future"),
    "should": ("should", "", "", "sollte solltest sollte sollten", "future"),
    "would like": ("would", "like to", "", "möchte möchtest möchte möchten", "future"),
    "want": ("", "want to", "", "will willst will wollen", "future"),
    "could": ("could", "", "", "konnte konntest konnte konnten", "past"),
    "wanted": ("", "want to", "wanted to", "wollte wolltest wollte wollten", "past"),
    "had": ("", "have to", "had to", "musste musstest musste mussten", "past"),
}


def pairs(table: str) -> tuple[Pair, ...]:
    """Split a table of entries such as "today=heute"."""
    return tuple((entry.split("=")[0], entry.split("=")[1]) for entry in table.split("; "))


# The present and the past share no adverbial: it alone tells "I read the book" from "ich habe gelesen".
TIMES = {
    "present": pairs("today=heute; every day=jeden Tag; in the evening=am Abend; on Sundays=sonntags"),
    "past": pairs("yesterday=gestern; last week=letzte Woche; this morning=heute Morgen"),
    "future": pairs("today=heute; tomorrow=morgen; next week=nächste Woche; now=jetzt"),
}
MID_ADVERBS = {
    "present": pairs("often=oft; always=immer; never=nie; rarely=selten"),
    "perfect": pairs("already=schon; never=nie; often=oft"),
}
# English, German, the class of the places that it goes with.
PLACES = (
    *(("in", "in", "i"), ("at", "an", "q"), ("on", "auf", "u")),
    *(("behind", "hinter", "b"), ("in front of", "vor", "b")),
)
# English, German, tenses of the main clause and of the subordinate clause (keys of TENSES).
CONJUNCTIONS = (
    ("because", "weil", "all", "all"),
    ("although", "obwohl", "all", "all"),
    ("if", "wenn", "now", "present"),
    ("while", "während", "now", "meanwhile"),
    ("before", "bevor", "now", "meanwhile"),
)

# ---------------------------------------------------------------------------------- morphology
CASES = ("nom", "acc", "dat", "gen")
# Columns as in CASES; "p" is the plural of every gender.
STRONG = {"m": "er en em es", "f": "e e er er", "n": "es es em es", "p": "e e en er"}
DEFINITE = {"m": "der den dem des", "f": "die die der der", "n": "das das dem des", "p": "die die den der"}
# Here "ein" has no ending, and an adjective after it shows the gender.
UNMARKED = (("m", "nom"), ("n", "nom"), ("n", "acc"))
FORM_INDEX = {"1s": 0, "2s": 1, "3s": 2, "1p": 3, "3p": 3}
IRREGULAR = {"sein": "bin bist ist sind", "wissen": "weiß weißt weiß wissen"}
PRETERITE = {"sein": "war warst war waren", "haben": "hatte hattest hatte hatten"}
CONTRACTED = {"in": "im", "an": "am", "von": "vom"}


def rows(table: str) -> list[list[str]]:
    """Split a lexicon table into its entries and their columns."""
    return [entry.split() for entry in table.replace("\n", ";").split(";") if entry.strip()]


def s_form(word: str) -> str:
    """The regular English plural of a noun, or the third person of a verb."""
    if word == "have":
        return "has"
    if re.search(r"(s|x|sh|ch|o)$", word):
        return word + "es"
    return re.sub(r"(?<=[^aeiou])y$", "ie", word) + "s"


def past_form(word: str) -> str:
    """The regular English past of a verb."""
    return re.sub(r"(?<=[^aeiou])y$", "i", word).removesuffix("e") + "ed"


class Noun:
    """A noun of both languages, from one row of NOUN_TABLE."""

    def __init__(self, en: str, de: str, gender: str, ending: str, classes: str) -> None:
        self.en, _, plural = en.partition("/")
        self.plural = plural or s_form(self.en)
        self.de, _, self.de_plural = de.partition("/")
        self.gender, self.ending, self.classes = gender, ending, classes
        self.mass = self.plural == "-"

    def german(self, number: str, case: str) -> str:
        """The German form: weak nouns, the genitive -(e)s, and -n in the dative plural."""
        if number == "p":
            return self.de_plural + ("n" if case == "dat" and self.de_plural[-1] not in "ns" else "")
        if self.ending in ("n", "en"):
            return self.de + ("" if case == "nom" else self.ending)
        return self.de + (self.ending if case == "gen" and self.ending != "-" else "")


class Adjective:
    """An adjective of both languages, from one row of ADJECTIVE_TABLE."""

    def __init__(self, en: str, de: str, classes: str) -> None:
        self.en, self.classes = en, classes
        self.de, _, stem = de.partition("/")
        self.stem = stem or self.de.removesuffix("e")


class Verb:
    """A verb of both languages, from one row of VERB_TABLE or CLAUSE_VERB_TABLE."""

    def __init__(self, en: str, de: str, subjects: str, frame: str, objects: str, extras: str) -> None:
        base, *forms = en.split("/")
        self.en, sign, self.tail = re.match(r"(\w+?)(?:([|_])(\w+))?$", base).groups(default="")
        self.movable = sign == "|"
        self.past, self.participle = forms or [past_form(self.en)] * 2
        infinitive, self.third, participle = de.split("/")
        self.prefix, _, self.de = infinitive.rpartition("|")
        self.auxiliary = "sein" if participle.startswith("*") else "haben"
        self.de_participle = participle.lstrip("*")
        self.subjects, self.frame, self.objects, self.extras = subjects, frame, objects, extras


NOUNS = {noun.en: noun for noun in (Noun(*row) for row in rows(NOUN_TABLE))}
ADJECTIVES = {adjective.en: adjective for adjective in (Adjective(*row) for row in rows(ADJECTIVE_TABLE))}
VERBS = {row[0].split("/")[0]: Verb(*row) for row in rows(VERB_TABLE)}
CLAUSE_VERBS = [Verb(*row) for row in rows(CLAUSE_VERB_TABLE)]
ALL_VERBS = tuple(VERBS.values())
ACTIVE_VERBS = tuple(verb for verb in ALL_VERBS if "s" not in verb.extras)
COPULA = Verb(*COPULA_TABLE.split())
SIZES, COLOURS = ([row[0] for row in rows(line)] for line in ADJECTIVE_TABLE.split("\n")[1:3])


def conjugate(infinitive: str, third: str, agreement: str) -> str:
    """A German finite present form (without a separable prefix)."""
    if infinitive in IRREGULAR:
        return IRREGULAR[infinitive].split()[FORM_INDEX[agreement]]
    if agreement == "2s":  # it shares the changed vowel with the third person: er gibt, du gibst
        return third if re.search(r"[sßz]t$", third) else third.removesuffix("t") + "st"
    return {"1s": re.sub(r"e?n$", "", infinitive) + "e", "3s": third}.get(agreement, infinitive)


def determiner(name: str, gender: str, case: str) -> str:
    """The German form of a determiner."""
    stem, kind = DETERMINERS[name][2:]
    column = CASES.index(case)
    if stem == "d":
        return DEFINITE[gender].split()[column]
    bare = kind == "mixed" and (gender, case) in UNMARKED
    return stem if bare or stem in ("", "zwei", "drei") else stem + STRONG[gender].split()[column]


def adjective_ending(kind: str, gender: str, case: str) -> str:
    """The German adjective ending after a determiner of the kind weak, mixed or strong."""
    unmarked = (gender, case) in UNMARKED
    if (kind == "mixed" and unmarked) or (kind == "strong" and (case != "gen" or gender in "fp")):
        return STRONG[gender].split()[CASES.index(case)]
    return "e" if unmarked or (gender == "f" and case in ("nom", "acc")) else "en"


# ------------------------------------------------------------------------------------- grammar
@dataclass(frozen=True)
class NP:
    """A noun phrase or pronoun: its English forms, its German forms by case, and what governs others."""

    en: str
    en_object: str
    de: dict[str, str]
    agreement: str
    head: str
    kind: str = "definite"  # or pronoun, indefinite, no
    gender: str = ""
    classes: str = "p"


PRONOUNS = [
    NP(subject, other, dict(zip(CASES[:3], forms, strict=True)), agreement, subject, "pronoun")
    for subject, other, *forms, agreement in rows(PRONOUN_TABLE)
]
WHO = NP("who", "whom", {"nom": "wer", "acc": "wen", "dat": "wem"}, "3s", "who")


def noun_phrase(
    noun: str, name: str = "the", number: str = "s", adjectives: Sequence[str] = (), owner: NP | None = None
) -> NP:
    """Build a noun phrase; with an owner: "the teacher's old dog", "der alte Hund des Lehrers"."""
    entry, (singular, plural, _, endings) = NOUNS[noun], DETERMINERS[name]
    gender, article, word = entry.gender, singular, entry.en
    if number == "p":
        gender, article, word = "p", plural, entry.plural
    if owner:
        article = owner.en + ("'" if owner.agreement == "3p" and owner.en.endswith("s") else "'s")
    elif name == "no" and entry.mass:
        article = ""
    elif article == "a" and (*adjectives, word)[0][0] in "aeiou":
        article = "an"
    text = join([article or "", *adjectives, word])
    forms = {}
    for case in CASES:
        ending = adjective_ending(endings, gender, case)
        inflected = [ADJECTIVES[adjective].stem + ending for adjective in adjectives]
        forms[case] = join([determiner(name, gender, case), *inflected, entry.german(number, case)])
        if owner:
            forms[case] += " " + owner.de["gen"]
    indefinite = name in ("a", "bare", "many", "two", "three")
    kind = "no" if name == "no" else "indefinite" if indefinite else "definite"
    return NP(text, text, forms, "3" + number, noun, kind, gender, entry.classes)


@dataclass(frozen=True)
class Clause:
    """A clause without its word order: english() and german() spell it out."""

    subject: NP
    verb: Verb
    tense: str = "present"  # or past, perfect, or a name in MODALS
    objects: tuple[NP, ...] = ()
    negated: bool = False
    mid: Pair = EMPTY  # an adverb such as often
    time: Pair = EMPTY
    extras: tuple[Pair, ...] = ()  # prepositional phrases, or the predicate of "be"
    front: Pair = EMPTY  # a fronted adverbial or question word
    gap: bool = False  # the object stands outside, as a relative pronoun or question word
    relative: Pair = EMPTY  # describes the last object


def join(words: Iterable[str]) -> str:
    """Join the words that are not empty by single spaces."""
    return " ".join(word for word in words if word)


def prepositional(preposition: str, phrase: str) -> str:
    """A German preposition with its phrase, contracted before the article: im Garten."""
    return re.sub(r"^(in|an|von) dem\b", lambda match: CONTRACTED[match[1]], f"{preposition} {phrase}")


def english_verb(clause: Clause, support: bool) -> Pair:
    """The English auxiliary (it may be empty) and the rest; with support, "do" fills an empty auxiliary."""
    verb, agreement, past = clause.verb, clause.subject.agreement, clause.tense == "past"
    base, past_word, rest = verb.en, verb.past, ""
    if clause.tense == "perfect":
        return ("has" if agreement == "3s" else "have"), verb.participle
    if clause.tense in MODALS:
        auxiliary, words, past_words, _, _ = MODALS[clause.tense]
        if auxiliary:
            return auxiliary, join([words, base])
        past, rest = bool(past_words), f" to {base}"
        base, past_word = words.removesuffix(" to"), past_words.removesuffix(" to")
    elif base == "be":
        plural = agreement not in ("1s", "3s")
        forms = ("were" if plural else "was") if past else {"1s": "am", "3s": "is"}.get(agreement, "are")
        return forms, ""
    if support:
        return ("did" if past else "does" if agreement == "3s" else "do"), base + rest
    return "", (past_word if past else s_form(base) if agreement == "3s" else base) + rest


def english(clause: Clause, mode: str = "main") -> str:
    """Spell a clause in English; modes: main, question, final, shared (no subject), infinitive."""
    objects = [] if clause.gap else [np.en_object for np in clause.objects]
    late = clause.verb.movable and objects and clause.objects[0].kind == "pronoun"
    complement = [*objects, clause.verb.tail] if late else [clause.verb.tail, *objects]
    after = [*complement, *(en for en, _ in clause.extras), clause.relative[0], clause.time[0]]
    if mode == "infinitive":
        return join(["not" if clause.negated else "", "to", clause.verb.en, *after])
    auxiliary, rest = english_verb(clause, clause.negated or mode == "question")
    if clause.negated:
        auxiliary = "cannot" if auxiliary == "can" else f"{auxiliary} not"
    subject = "" if mode == "shared" else clause.subject.en
    order = [auxiliary, subject] if mode == "question" else [subject, auxiliary]
    return join([clause.front[0], *order, clause.mid[0], rest, *after])


def german_verb(clause: Clause) -> Pair:
    """The German finite verb, and what stands at the end of a main clause."""
    verb, agreement = clause.verb, clause.subject.agreement
    if clause.tense == "present":
        return conjugate(verb.de, verb.third, agreement), verb.prefix
    if clause.tense in MODALS:
        return MODALS[clause.tense][3].split()[FORM_INDEX[agreement]], verb.prefix + verb.de
    if clause.tense == "past" and verb.de in PRETERITE:
        return PRETERITE[verb.de].split()[FORM_INDEX[agreement]], ""
    return conjugate(verb.auxiliary, "hat", agreement), verb.de_participle


def middle_field(clause: Clause) -> list[str]:
    """What stands between the two parts of the German verb, in its order."""
    pronouns, full, rest = [], [], []
    merged = any(np.kind == "no" for np in clause.objects)  # the negation is in "kein"
    adverb = "nicht" if clause.negated and not merged else clause.mid[1]
    frame = clause.verb.frame
    cases = ["dat", "acc"] if frame == "give" else [frame]
    for np, case in zip(() if clause.gap else clause.objects, cases, strict=False):
        if ":" in case:
            preposition, case = case.split(":")
            rest.append(prepositional(preposition, np.de[case]))
        elif np.kind == "pronoun":
            pronouns.append(np.de[case])
        else:
            if np.kind != "definite":  # adverbs follow definite objects and precede the first other one
                full.append(adverb)
                adverb = ""
            full.append(np.de[case])
    return [*pronouns, clause.time[1], *full, adverb, *rest, *(de for _, de in clause.extras)]


def german(clause: Clause, mode: str = "main") -> str:
    """Spell a clause in German, in the modes of english(); "," is a word until sentence() attaches it."""
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


def relative_clause(head: NP, clause: Clause) -> Pair:
    """A relative clause about head, which is the object of the clause if that has a gap, else its subject."""
    person = "p" in head.classes
    if not clause.gap:
        english_text = f"{'who' if person else 'that'} {english(clause, 'shared')}"
        return english_text, f"{DEFINITE[head.gender].split()[0]} {german(clause, 'relative')}"
    preposition, _, case = clause.verb.frame.rpartition(":")
    plural_dative = head.gender == "p" and case == "dat"
    pronoun = "denen" if plural_dative else DEFINITE[head.gender].split()[CASES.index(case)]
    german_text = join([preposition, pronoun, german(clause, "final")])
    return f"{'whom' if person else 'that'} {english(clause, 'final')}", german_text


def sentence(text: str, mark: str = ".") -> str:
    """Attach and merge the commas, capitalize, and end with the punctuation mark."""
    text = re.sub(r"(?: ,)+", ",", text).removesuffix(",")
    return text[0].upper() + text[1:] + mark


# The random part. Weights are given by repetition.
FRONTED: Pair = ("...", "...")  # asks random_clause() for an adverbial in front
NEVER_NEGATED = ("must", "may", "had")  # "must not" is not "nicht müssen"
MAX_PAIRS = 500_000
PATIENCE = 2_000
MODAL_NAMES = tuple(MODALS)
TENSES: dict[str, tuple[str, ...]] = {
    "all": ("present",) * 12 + ("perfect",) * 5 + ("past",) * 5 + MODAL_NAMES,
    "now": ("present",) * 8 + tuple(name for name in MODAL_NAMES if MODALS[name][4] == "future"),
    "present": ("present",),
    "meanwhile": ("present",),  # an event: no states, no negation, no "often"
    "timeless": ("present", "present", "perfect"),
    "when": ("present",) * 3 + ("past",) * 3 + ("can", "must", "will", "should", "could"),
    "where": ("present",) * 4 + ("perfect",) + ("past",) * 2 + MODAL_NAMES,
}
DETERMINER_CHOICE = {
    "s": ("the",) * 6 + ("a",) * 5 + ("this",) + ("own",) * 3,
    "p": ("the",) * 5 + ("bare",) * 3 + ("this",) + ("own",) * 2 + ("many", "two", "three"),
    "definite": ("the",) * 5 + ("this",) + ("own",) * 3,
    "mass": ("bare",) * 3 + ("the", "own"),
    "no": ("the", "the", "own", "no", "no"),
    "place": ("the",) * 8 + ("this", "own"),
    "described": ("the",),
}


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """Choose an item. Random.choice may differ between Python versions; random() does not."""
    return items[int(rng.random() * len(items))]


def chance(rng: random.Random, probability: float) -> bool:
    """Whether an event of this probability happens."""
    return rng.random() < probability


@cache
def nouns_of(classes: str) -> tuple[Noun, ...]:
    """The nouns that have one of the classes."""
    return tuple(noun for noun in NOUNS.values() if set(noun.classes) & set(classes))


@cache
def adjectives_for(classes: str) -> tuple[str, ...]:
    """The adjectives that go with a noun of these classes."""
    return tuple(word.en for word in ADJECTIVES.values() if set(word.classes) & set(classes))


def random_np(
    rng: random.Random,
    classes: str,
    choice: str = "",
    avoid: Sequence[str] = (),
    rich: bool = False,
) -> NP:
    """A noun phrase of one of the classes, but not with one of the nouns to avoid.

    The choice is a key of DETERMINER_CHOICE; "no" lets a negation merge with the article. Only a rich
    phrase may have an owner, a coordination or a prepositional phrase.
    """
    noun = pick(rng, [noun for noun in nouns_of(classes) if noun.en not in avoid])
    number = "p" if not noun.mass and chance(rng, 0.1 if choice == "place" else 0.3) else "s"
    name = pick(rng, DETERMINER_CHOICE[choice or ("mass" if noun.mass else number)])
    if name == "own":
        name = pick(rng, tuple(POSSESSIVES))
    adjectives: tuple[str, ...] = ()
    if chance(rng, 0.3):
        fitting = adjectives_for(noun.classes)
        adjectives = (pick(rng, fitting),)
        colours = [word for word in COLOURS if word in fitting]
        if adjectives[0] in SIZES and colours and chance(rng, 0.3):
            adjectives += (pick(rng, colours),)
    avoid = (*avoid, noun.en)
    person = noun.classes == "p"
    owned = rich and name == "the" and not person and not noun.mass and chance(rng, 0.09)
    owner = random_np(rng, "p", "definite", avoid) if owned else None
    phrase = noun_phrase(noun.en, name, number, adjectives, owner)
    if not (rich and person and phrase.kind == "definite" and chance(rng, 0.06)):
        return phrase
    if chance(rng, 0.5):
        second = random_np(rng, "pa", "definite", avoid)
        text, link, case = f"{phrase.en} and {second.en}", "und", ""
        phrase = replace(phrase, agreement="3p", gender="", classes="p")
    else:
        second = random_np(rng, "ac", "", avoid)
        text, link, case = f"{phrase.en} with {second.en}", "mit", "dat"
    forms = {key: f"{form} {link} {second.de[case or key]}" for key, form in phrase.de.items()}
    return replace(phrase, en=text, en_object=text, de=forms)


def random_pronoun(rng: random.Random, subject: NP | None = None) -> NP:
    """A personal pronoun; as an object, of another person than the subject "I", "you" or "we"."""
    person = subject.agreement[0] if subject and subject.agreement[0] != "3" else ""
    return pick(rng, [np for np in PRONOUNS if np.agreement[0] != person])


def random_subject(rng: random.Random, classes: str, choice: str = "", avoid: Sequence[str] = ()) -> NP:
    """A subject: a pronoun where persons can be meant, or a noun phrase."""
    if "p" in classes and chance(rng, 0.3):
        return random_pronoun(rng)
    phrase = random_np(rng, classes, choice, avoid, rich=True)
    if not choice and phrase.agreement == "3s" and chance(rng, 0.06):
        return noun_phrase(phrase.head, "every")
    return phrase


def random_objects(rng: random.Random, verb: Verb, subject: NP, negated: bool, rich: bool) -> tuple[NP, ...]:
    """The objects that the verb asks for; those of a negated verb are definite or have the article "no"."""
    objects = []
    if verb.frame == "give" and chance(rng, 0.4):
        objects.append(random_pronoun(rng, subject))
    elif verb.frame == "give":
        objects.append(random_np(rng, "p", "definite" if negated else "", [subject.head]))
    if "p" in verb.objects and verb.frame != "give" and rich and chance(rng, 0.3):
        objects.append(random_pronoun(rng, subject))
    elif verb.frame != "-":
        choice = "" if not negated else "no" if verb.frame in ("give", "acc") else "definite"
        avoid = [subject.head, *(np.head for np in objects)]
        objects.append(random_np(rng, verb.objects, choice, avoid, rich))
    return tuple(objects)


def random_place(rng: random.Random) -> Pair:
    """A prepositional phrase that says where."""
    english_preposition, german_preposition, classes = pick(rng, PLACES)
    phrase = random_np(rng, classes, "place", rich=True)
    return f"{english_preposition} {phrase.en}", prepositional(german_preposition, phrase.de["dat"])


def random_extras(rng: random.Random, verb: Verb, avoid: Sequence[str], place: bool) -> tuple[Pair, ...]:
    """Up to two of the phrases that the verb allows: for whom or with whom, and, if wanted, where."""
    extras = []
    for kind, word, german_word, case in (("f", "for", "für", "acc"), ("c", "with", "mit", "dat")):
        if kind in verb.extras and not extras and chance(rng, 0.12):
            phrase = random_np(rng, "p", "", avoid)
            extras.append((f"{word} {phrase.en}", f"{german_word} {phrase.de[case]}"))
    if place and "l" in verb.extras and chance(rng, 0.17):
        extras.append(random_place(rng))
    return tuple(extras)


def random_relative(rng: random.Random, head: NP) -> Pair:
    """A relative clause about a noun phrase, which is its subject or its object."""
    by_object = [verb for verb in ALL_VERBS if set(verb.objects) & set(head.classes) and verb.frame != "give"]
    by_subject = [verb for verb in ALL_VERBS if set(verb.subjects) & set(head.classes)]
    if by_subject and chance(rng, 0.6):
        return relative_clause(head, random_clause(rng, pick(rng, by_subject), head, "timeless"))
    subject = random_subject(rng, "p", "definite", [head.head])
    return relative_clause(head, random_clause(rng, pick(rng, by_object), subject, "timeless", gap=True))


def random_clause(
    rng: random.Random,
    verb: Verb | None = None,
    subject: NP | None = None,
    tenses: str = "all",
    front: Pair = EMPTY,
    gap: bool = False,
    inverted: bool = False,
) -> Clause:
    """A clause of which some parts may be given.

    "timeless" as `tenses` (a key of TENSES) keeps out adverbials of time and relative clauses. The front
    may be a question word or a subordinate clause, or FRONTED to ask for an adverbial there.
    """
    if verb is None:
        active = front == FRONTED or tenses in ("now", "meanwhile")
        copula = not active and chance(rng, 0.09)
        verb = COPULA if copula else pick(rng, ACTIVE_VERBS if active else ALL_VERBS)
    nested, asked, lasting = tenses == "timeless", inverted and front != EMPTY, "s" in verb.extras
    tense = pick(rng, ("present", "past") if lasting and tenses == "all" else TENSES[tenses])
    if lasting and tense != "past":
        tense = "present"
    deniable = tense not in NEVER_NEGATED and tenses != "meanwhile" and not inverted
    negated = deniable and chance(rng, 0.13)
    mid, time, place = EMPTY, EMPTY, not asked
    modifiable = verb is not COPULA and tenses != "meanwhile" and front != FRONTED
    if modifiable and not negated and chance(rng, 0.12):
        mid = pick(rng, MID_ADVERBS.get(tense, (EMPTY,)))
    if tense != "perfect" and not (nested or asked or lasting or mid[0]):
        # Without "did", the past of "read" or "put" is only seen by its time. With "nicht", the order of
        # the adverbials would be unsettled, so that the time must go to the front.
        needed = tense == "past" and not inverted
        if front == FRONTED or (not negated and (needed or chance(rng, 0.25))):
            time = pick(rng, TIMES[MODALS[tense][4] if tense in MODALS else tense])
    if front == FRONTED and "l" in verb.extras and chance(rng, 0.4):
        front, place = random_place(rng), False
        time = time if tense == "past" and not negated else EMPTY
    elif front == FRONTED:
        front, time = time, EMPTY
    if subject is None and verb is not COPULA and not nested and chance(rng, 0.05):
        head = random_np(rng, verb.subjects, "described")
        about, german_about = random_relative(rng, head)
        subject = replace(head, en=f"{head.en} {about}", de={"nom": f"{head.de['nom']} , {german_about} ,"})
    settled = negated or mid[0] == "never"  # a negation of "every man" or "a man" would be ambiguous
    subject = subject or random_subject(rng, verb.subjects, "definite" if settled else "")
    described = verb.frame != "-" and not (nested or gap or time[0]) and chance(rng, 0.11)
    objects = () if gap else random_objects(rng, verb, subject, negated, rich=not described)
    described = described and objects[-1].en.split()[0] not in POSSESSIVES
    relative, extras = EMPTY, ()
    if verb is COPULA:
        word = ADJECTIVES[pick(rng, adjectives_for(subject.classes))]
        extras = ((word.en, word.de),)
    elif described:
        relative = random_relative(rng, objects[-1])
    else:
        extras = random_extras(rng, verb, [subject.head, *(np.head for np in objects)], place)
    return Clause(subject, verb, tense, objects, negated, mid, time, extras, front, gap, relative)


def statement(rng: random.Random) -> Pair:
    """A main clause; the subject or an adverbial comes first."""
    clause = random_clause(rng, front=FRONTED if chance(rng, 0.3) else EMPTY)
    return sentence(english(clause)), sentence(german(clause))


def question(rng: random.Random) -> Pair:
    """A yes-no question, or one that asks for an adverbial, the subject, or the object."""
    kind = pick(rng, ("yes-no", "yes-no", "adverbial", "subject", "object"))
    if kind == "subject":
        clause = random_clause(rng, subject=WHO)
        return sentence(english(clause), "?"), sentence(german(clause), "?")
    verb, front, tenses, gap = None, EMPTY, "all", False
    if kind == "adverbial":
        word, german_word, tenses = pick(
            rng, (("why", "warum", "all"), ("when", "wann", "when"), ("where", "wo", "where"))
        )
        front = (word, german_word)
        verb = pick(rng, [v for v in ALL_VERBS if tenses != "where" or "l" in v.extras])
    elif kind == "object":
        verb, gap = pick(rng, [v for v in ALL_VERBS if v.frame not in ("-", "give")]), True
        preposition, _, case = verb.frame.rpartition(":")
        front = ("whom", join([preposition, WHO.de[case]])) if "p" in verb.objects else ("what", "was")
    clause = random_clause(rng, verb, None, tenses, front, gap, inverted=True)
    return sentence(english(clause, "question"), "?"), sentence(german(clause, "question"), "?")


def with_adverbial_clause(rng: random.Random) -> Pair:
    """A main clause and a subordinate clause with a conjunction, in either order."""
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
    """A verb such as "know" with a clause, or one such as "try" with an infinitive."""
    verb = pick(rng, CLAUSE_VERBS)
    tense = pick(rng, ("present", "present", "perfect", "past"))
    negated = chance(rng, 0.1) or (verb.frame == "ob" and verb.de == "wissen")  # one does not know whether
    subject = random_subject(rng, "p", "definite" if negated else "")
    front = pick(rng, TIMES["past"]) if tense == "past" else EMPTY
    main = Clause(subject, verb, tense, negated=negated, front=front)
    if verb.frame == "zu":
        return with_infinitive(rng, main, "", "")
    clause = random_clause(rng)
    word = "that" if verb.frame == "dass" else "whether"
    german_text = f"{german(main)} , {verb.frame} {german(clause, 'final')}"
    return sentence(f"{english(main)} {word} {english(clause, 'final')}"), sentence(german_text)


def with_purpose(rng: random.Random) -> Pair:
    """A main clause with "in order to", "um ... zu"."""
    main = random_clause(rng, pick(rng, ALL_VERBS), random_subject(rng, "p", "definite"))
    return with_infinitive(rng, main, "in order", "um")


def with_infinitive(rng: random.Random, main: Clause, word: str, german_word: str) -> Pair:
    """Add an infinitive, which shares the subject of the main clause."""
    clause = replace(random_clause(rng, pick(rng, ALL_VERBS), main.subject, "timeless"), mid=EMPTY)
    text = join([english(main), word, english(clause, "infinitive")])
    return sentence(text), sentence(join([german(main), ",", german_word, german(clause, "infinitive")]))


def coordination(rng: random.Random) -> Pair:
    """Two main clauses; after "and" the second one may share the subject."""
    first = random_clause(rng)
    verbs = [verb for verb in ALL_VERBS if set(verb.subjects) & set(first.subject.classes)]
    if verbs and chance(rng, 0.5):
        second = random_clause(rng, pick(rng, verbs), first.subject)
        text = f"{english(first)} and {english(second, 'shared')}"
        return sentence(text), sentence(f"{german(first)} und {german(second, 'shared')}")
    second = random_clause(rng)
    word, german_word = pick(rng, (("and", "und"), (", but", ", aber")))
    return (
        sentence(f"{english(first)} {word} {english(second)}"),
        sentence(f"{german(first)} {german_word} {german(second)}"),
    )


def derive(rng: random.Random) -> Pair:
    """Draw one sentence pair from the grammar."""
    rules: tuple[tuple[int, Callable[[random.Random], Pair]], ...] = (
        (54, statement),
        (18, question),
        (10, with_adverbial_clause),
        (10, with_object_clause),
        (2, with_purpose),
        (6, coordination),
    )
    return pick(rng, [rule for weight, rule in rules for _ in range(weight)])(rng)


# --------------------------------------------------------------------------------- the program
class CorpusError(Exception):
    """The corpus cannot be made as asked for."""


def generate(count: int, seed: int) -> list[Pair]:
    """Draw pairs that all differ in both sides and have 4 to 22 words on both sides."""
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
    """Draw the splits: test and valid come first, so that they do not depend on the size of train."""
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
    """Write SPLIT.en and SPLIT.de: first all under temporary names, then renamed."""
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
    """The command line; returns the exit status."""
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
