"""Tests of scripts/corpus/grammar: the words and their forms, and how phrases and clauses are spelled."""

import re

import pytest
from grammar.drawing import adjectives_for, nouns_of
from grammar.lexicon import (
    ADJECTIVE_TABLE,
    ADJECTIVES,
    ALL_VERBS,
    COPULA,
    NOUN_TABLE,
    NOUNS,
    VERB_TABLE,
    VERBS,
    rows,
)
from grammar.spelling import (
    CASES,
    PRONOUNS,
    Clause,
    conjugate,
    english,
    german,
    prepositional,
    relative_clause,
    sentence,
)
from grammar.spelling import noun_phrase as phrase
from make_grammar_corpus import CLAUSE_VERBS

PRONOUN = {pronoun.en: pronoun for pronoun in PRONOUNS}


def clause(subject, verb, *objects, **parts):
    """Return a clause of subject and object phrases (or the names of pronouns) and the name of a verb."""
    subject, *objects = (PRONOUN[part] if isinstance(part, str) else part for part in (subject, *objects))
    return Clause(subject, VERBS[verb], objects=tuple(objects), **parts)


def both(made, mode="main", mark="."):
    """Return the English and the German sentence of a clause."""
    return sentence(english(made, mode), mark), sentence(german(made, mode), mark)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("dog", "the", "s", ["old"]), "der alte Hund, den alten Hund, dem alten Hund, des alten Hundes"),
        (("dog", "a", "s", ["old"]), "ein alter Hund, einen alten Hund, einem alten Hund, eines alten Hundes"),
        (("door", "a", "s", ["new"]), "eine neue Tür, eine neue Tür, einer neuen Tür, einer neuen Tür"),
        (("book", "my", "s", ["long"]), "mein langes Buch, mein langes Buch, meinem langen Buch"),
        (("book", "this", "s", ["long"]), "dieses lange Buch, dieses lange Buch, diesem langen Buch"),
        (("house", "the", "s", ["dark"]), "das dunkle Haus, das dunkle Haus, dem dunklen Haus"),
        (("hat", "her", "s", ["expensive"]), "ihr teurer Hut, ihren teuren Hut, ihrem teuren Hut"),
        (("coffee", "bare", "s", ["warm"]), "warmer Kaffee, warmen Kaffee, warmem Kaffee"),
        (("milk", "bare", "s", ["cold"]), "kalte Milch, kalte Milch, kalter Milch"),
        (("child", "bare", "p", ["sad"]), "traurige Kinder, traurige Kinder, traurigen Kindern"),
        (("child", "the", "p", ["sad"]), "die traurigen Kinder, die traurigen Kinder, den traurigen Kindern"),
        (("key", "many", "p", ["old"]), "viele alte Schlüssel, viele alte Schlüssel, vielen alten Schlüsseln"),
        (("car", "two", "p", ["red"]), "zwei rote Autos, zwei rote Autos, zwei roten Autos"),
        (("picture", "no", "p", []), "keine Bilder, keine Bilder, keinen Bildern"),
        (("boy", "every", "s", []), "jeder Junge, jeden Jungen, jedem Jungen, jedes Jungen"),
        (("lion", "our", "s", []), "unser Löwe, unseren Löwen, unserem Löwen, unseres Löwen"),
        (("girl", "the", "p", []), "die Mädchen, die Mädchen, den Mädchen, der Mädchen"),
    ],
)
def test_german_noun_phrases_are_declined(arguments, expected):
    forms = expected.split(", ")
    made = phrase(*arguments)
    assert [made.de[case] for case in CASES[: len(forms)]] == forms


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("dog", "a", "s", ["old"]), "an old dog"),
        (("apple", "a"), "an apple"),
        (("apple", "a", "s", ["small", "red"]), "a small red apple"),
        (("mouse", "this", "p"), "these mice"),
        (("thief", "two", "p"), "two thieves"),
        (("city", "the", "p"), "the cities"),
        (("box", "many", "p"), "many boxes"),
        (("church", "bare", "p"), "churches"),
        (("radio", "my", "p"), "my radios"),
        (("tea", "no"), "tea"),
    ],
)
def test_english_noun_phrases_are_spelled(arguments, expected):
    assert phrase(*arguments).en == expected


def test_owner_is_in_the_genitive():
    made = phrase("house", "the", "s", ["new"], phrase("student", "my", "s", ["rich"]))
    assert (made.en, made.de["dat"]) == ("my rich student's new house", "dem neuen Haus meines reichen Studenten")
    teachers = phrase("dog", owner=phrase("teacher", number="p"))
    assert (teachers.en, teachers.de["nom"]) == ("the teachers' dog", "der Hund der Lehrer")
    children = phrase("dog", owner=phrase("child", number="p"))
    assert (children.en, children.de["nom"]) == ("the children's dog", "der Hund der Kinder")


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("read", "lese liest liest lesen"),
        ("give", "gebe gibst gibt geben"),
        ("invite", "lade lädst lädt laden"),
        ("work", "arbeite arbeitest arbeitet arbeiten"),
        ("wash", "wasche wäschst wäscht waschen"),
        ("dance", "tanze tanzt tanzt tanzen"),
        ("forget", "vergesse vergisst vergisst vergessen"),
        ("have", "habe hast hat haben"),
    ],
)
def test_german_verbs_are_conjugated_in_the_present(verb, expected):
    entry = VERBS[verb]
    forms = [conjugate(entry.de, entry.third, agreement) for agreement in ("1s", "2s", "3s", "3p")]
    assert " ".join(forms) == expected


def test_every_entry_of_the_lexicon_is_complete_and_unique():
    # No name occurs twice.
    assert len(NOUNS) == len(rows(NOUN_TABLE))
    assert len(VERBS) == len(rows(VERB_TABLE))
    assert len(ADJECTIVES) == len(rows(ADJECTIVE_TABLE))
    for noun in NOUNS.values():
        assert noun.gender in "mfn", noun.de
        assert noun.de[0].isupper(), noun.de
        assert noun.mass or noun.de_plural[0].isupper(), noun.de
        assert (noun.ending == "") == (noun.gender == "f"), noun.de
        assert adjectives_for(noun.classes), noun.en
    for verb in (*ALL_VERBS, *CLAUSE_VERBS):
        assert re.search("n$", verb.de), verb.de
        assert re.search("[tß]$", verb.third), verb.de
        assert re.search("[tn]$", verb.de_participle), verb.de
        assert verb.de_participle.startswith(verb.prefix), verb.de
        assert not verb.objects or nouns_of(verb.objects), verb.en


def test_every_class_that_a_word_goes_with_is_the_class_of_a_noun():
    known = {name for noun in NOUNS.values() for name in noun.classes}
    for adjective in ADJECTIVES.values():
        assert adjective.classes <= known, adjective.en
    for verb in (*ALL_VERBS, *CLAUSE_VERBS, COPULA):
        assert verb.subjects | verb.objects <= known, verb.en


THE_MAN, THE_WINDOW = phrase("man"), phrase("window")
YESTERDAY, TODAY = ("yesterday", "gestern"), ("today", "heute")


@pytest.mark.parametrize(
    ("made", "mode", "expected"),
    [
        # verb second, agreement, cases
        (
            clause(THE_MAN, "give", phrase("child", "a"), phrase("apple", "this")),
            "main",
            ("The man gives a child this apple.", "Der Mann gibt einem Kind diesen Apfel."),
        ),
        (clause("I", "help", "he"), "main", ("I help him.", "Ich helfe ihm.")),
        (
            clause("they", "wait_for", phrase("king", "a", "s", ["old"]), time=TODAY),
            "main",
            ("They wait for an old king today.", "Sie warten heute auf einen alten König."),
        ),
        (clause("we", "dream_of", phrase("bear")), "main", ("We dream of the bear.", "Wir träumen vom Bären.")),
        (
            clause(THE_MAN, "read", phrase("book", "a"), front=TODAY),
            "main",
            ("Today the man reads a book.", "Heute liest der Mann ein Buch."),
        ),
        # separable verbs: apart, joined, with ge and with zu inside
        (clause(THE_MAN, "open", THE_WINDOW), "main", ("The man opens the window.", "Der Mann macht das Fenster auf.")),
        (clause(THE_MAN, "open", THE_WINDOW), "final", ("The man opens the window.", "Der Mann das Fenster aufmacht.")),
        (
            clause(THE_MAN, "open", THE_WINDOW, tense="perfect"),
            "main",
            ("The man has opened the window.", "Der Mann hat das Fenster aufgemacht."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW, tense="would_like"),
            "main",
            ("The man would like to open the window.", "Der Mann möchte das Fenster aufmachen."),
        ),
        (clause(THE_MAN, "open", THE_WINDOW), "infinitive", ("To open the window.", "Das Fenster aufzumachen.")),
        (clause("she", "pick|up", "we"), "main", ("She picks us up.", "Sie holt uns ab.")),
        (clause("she", "pick|up", phrase("boy")), "main", ("She picks up the boy.", "Sie holt den Jungen ab.")),
        # tenses and modals, also at the end of a clause
        (
            clause("he", "come|back", tense="past", time=YESTERDAY),
            "final",
            ("He came back yesterday.", "Er gestern zurückgekommen ist."),
        ),
        (
            clause("you", "look_at", "I", tense="had", time=YESTERDAY),
            "final",
            ("You had to look at me yesterday.", "Du mich gestern ansehen musstest."),
        ),
        (clause("I", "have", phrase("dog", "a"), tense="past"), "main", ("I had a dog.", "Ich hatte einen Hund.")),
        # negation
        (
            clause(THE_MAN, "see", phrase("dog", "no"), negated=True),
            "main",
            ("The man does not see a dog.", "Der Mann sieht keinen Hund."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW, negated=True),
            "main",
            ("The man does not open the window.", "Der Mann macht das Fenster nicht auf."),
        ),
        (
            clause("we", "talk_to", "they", tense="can", negated=True),
            "main",
            ("We cannot talk to them.", "Wir können nicht mit ihnen sprechen."),
        ),
        # adverbs follow definite and precede indefinite objects
        (
            clause("she", "read", phrase("letter"), mid=("often", "oft")),
            "main",
            ("She often reads the letter.", "Sie liest den Brief oft."),
        ),
        (
            clause("she", "read", phrase("letter", "bare", "p"), mid=("often", "oft")),
            "main",
            ("She often reads letters.", "Sie liest oft Briefe."),
        ),
        # questions
        (clause("you", "sleep"), "question", ("Do you sleep?", "Schläfst du?")),
        (
            clause(THE_MAN, "put|on", front=("what", "was"), tense="wanted", gap=True),
            "question",
            ("What did the man want to put on?", "Was wollte der Mann anziehen?"),
        ),
    ],
)
def test_clauses_are_spelled_in_both_languages(made, mode, expected):
    assert both(made, mode, "?" if mode == "question" else ".") == expected


@pytest.mark.parametrize(
    ("name", "present", "past", "german_forms"),
    [
        ("I", "am", "was", "bin war"),
        ("you", "are", "were", "bist warst"),
        ("she", "is", "was", "ist war"),
        ("they", "are", "were", "sind waren"),
    ],
)
def test_the_copula_is_conjugated_in_both_languages(name, present, past, german_forms):
    young = ((ADJECTIVES["young"].en, ADJECTIVES["young"].de),)
    forms = zip(("present", "past"), (present, past), german_forms.split(), strict=True)
    for tense, form, german_form in forms:
        made = Clause(PRONOUN[name], COPULA, tense, extras=young)
        subject = PRONOUN[name].de["nom"].capitalize()
        expected = (f"{name[0].upper()}{name[1:]} {form} young.", f"{subject} {german_form} jung.")
        assert both(made) == expected


def test_relative_clauses_are_spelled_in_both_languages():
    boys = phrase("boy", number="p")
    assert relative_clause(boys, clause(boys, "fall_asleep")) == ("who fall asleep", "die einschlafen")
    assert relative_clause(boys, clause("I", "help", gap=True)) == ("whom I help", "denen ich helfe")
    bear = phrase("bear")
    assert relative_clause(bear, clause("I", "think_of", gap=True)) == ("that I think of", "an den ich denke")
    seen = clause(
        "we",
        "see",
        phrase("cat", "a"),
        tense="perfect",
        relative=relative_clause(phrase("cat"), clause(phrase("cat"), "sleep")),
    )
    assert both(seen) == ("We have seen a cat that sleeps.", "Wir haben eine Katze gesehen, die schläft.")


def test_subordinate_clause_in_front_inverts_the_main_clause():
    condition = clause(phrase("guest"), "arrive")
    front = (f"if {english(condition, 'final')} ,", f"wenn {german(condition, 'final')} ,")
    assert both(clause(THE_MAN, "close", THE_WINDOW, front=front)) == (
        "If the guest arrives, the man closes the window.",
        "Wenn der Gast ankommt, macht der Mann das Fenster zu.",
    )


def test_commas_merge_and_none_stands_before_the_final_mark():
    assert sentence("ich sehe den Hund , der schläft , , weil ich wache ,") == (
        "Ich sehe den Hund, der schläft, weil ich wache."
    )


def test_place_is_contracted_only_before_an_article():
    assert prepositional("in", "dem alten Park") == "im alten Park"
    assert prepositional("an", "dem See") == "am See"
    assert prepositional("auf", "dem Sofa") == "auf dem Sofa"
    assert prepositional("in", "der Küche") == "in der Küche"
    assert prepositional("in", "diesem Park") == "in diesem Park"
