"""Tests of scripts/corpus/make_grammar_corpus.py: the grammar's German and English, and the files it writes."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/corpus/make_grammar_corpus.py"
FILES = [f"{split}.{language}" for split in ("train", "valid", "test") for language in ("en", "de")]
SMALL = ("--train", "300", "--valid", "20", "--test", "40")


def load():
    """Import the script, which is not part of a package; dataclasses need it in sys.modules."""
    spec = importlib.util.spec_from_file_location("make_grammar_corpus", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


g = load()
phrase, VERBS, ADJECTIVES = g.noun_phrase, g.VERBS, g.ADJECTIVES
PRONOUN = {np.en: np for np in g.PRONOUNS}
VERB_OF_CLAUSE = {verb.en: verb for verb in g.CLAUSE_VERBS}


def clause(subject, verb, *objects, **parts):
    """A clause of subject and object phrases (or the names of pronouns) and the name of a verb."""
    subject, *objects = (PRONOUN[np] if isinstance(np, str) else np for np in (subject, *objects))
    return g.Clause(subject, VERBS[verb], objects=tuple(objects), **parts)


def both(made, mode="main", mark="."):
    """The English and the German sentence of a clause."""
    return g.sentence(g.english(made, mode), mark), g.sentence(g.german(made, mode), mark)


def digest(folder):
    """One hash of the six files."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in FILES)).hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small corpus as the program writes it, and where it lies."""
    folder = tmp_path_factory.mktemp("small")
    assert g.main([*SMALL, "--seed", "7", "--out", str(folder)]) == 0
    return folder


def lines(folder, name):
    """The lines of a file; each one must end in a bare line feed."""
    text = (folder / name).read_bytes().decode("utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    return text[:-1].split("\n")


# ---------------------------------------------------------------------------------- morphology


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("dog", "the", "s", ["old"]), "der alte Hund, den alten Hund, dem alten Hund, des alten Hundes"),
        (
            ("dog", "a", "s", ["old"]),
            "ein alter Hund, einen alten Hund, einem alten Hund, eines alten Hundes",
        ),
        (("door", "a", "s", ["new"]), "eine neue Tür, eine neue Tür, einer neuen Tür, einer neuen Tür"),
        (("book", "my", "s", ["long"]), "mein langes Buch, mein langes Buch, meinem langen Buch"),
        (("book", "this", "s", ["long"]), "dieses lange Buch, dieses lange Buch, diesem langen Buch"),
        (("house", "the", "s", ["dark"]), "das dunkle Haus, das dunkle Haus, dem dunklen Haus"),
        (("hat", "her", "s", ["expensive"]), "ihr teurer Hut, ihren teuren Hut, ihrem teuren Hut"),
        (("coffee", "bare", "s", ["warm"]), "warmer Kaffee, warmen Kaffee, warmem Kaffee"),
        (("milk", "bare", "s", ["cold"]), "kalte Milch, kalte Milch, kalter Milch"),
        (("child", "bare", "p", ["sad"]), "traurige Kinder, traurige Kinder, traurigen Kindern"),
        (("child", "the", "p", ["sad"]), "die traurigen Kinder, die traurigen Kinder, den traurigen Kindern"),
        (
            ("key", "many", "p", ["old"]),
            "viele alte Schlüssel, viele alte Schlüssel, vielen alten Schlüsseln",
        ),
        (("car", "two", "p", ["red"]), "zwei rote Autos, zwei rote Autos, zwei roten Autos"),
        (("picture", "no", "p", []), "keine Bilder, keine Bilder, keinen Bildern"),
        (("boy", "every", "s", []), "jeder Junge, jeden Jungen, jedem Jungen, jedes Jungen"),
        (("lion", "our", "s", []), "unser Löwe, unseren Löwen, unserem Löwen, unseres Löwen"),
        (("girl", "the", "p", []), "die Mädchen, die Mädchen, den Mädchen, der Mädchen"),
    ],
)
def test_german_declension(arguments, expected):
    forms = expected.split(", ")
    made = phrase(*arguments)
    assert [made.de[case] for case in g.CASES[: len(forms)]] == forms


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
def test_english_noun_phrase(arguments, expected):
    assert phrase(*arguments).en == expected


def test_owner_is_in_the_genitive():
    made = phrase("house", "the", "s", ["new"], phrase("student", "my", "s", ["rich"]))
    assert (made.en, made.de["dat"]) == (
        "my rich student's new house",
        "dem neuen Haus meines reichen Studenten",
    )
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
def test_german_present(verb, expected):
    entry = VERBS[verb]
    forms = [g.conjugate(entry.de, entry.third, agreement) for agreement in ("1s", "2s", "3s", "3p")]
    assert " ".join(forms) == expected


def test_lexicon_is_consistent():
    assert len(g.NOUNS) == len(g.rows(g.NOUN_TABLE))  # no name twice
    assert len(VERBS) == len(g.rows(g.VERB_TABLE))
    for noun in g.NOUNS.values():
        assert noun.gender in "mfn", noun.de
        assert noun.de[0].isupper(), noun.de
        assert noun.mass or noun.de_plural[0].isupper(), noun.de
        assert (noun.ending == "-") == (noun.gender == "f"), noun.de
        assert g.adjectives_for(noun.classes), noun.en
    for verb in (*g.ALL_VERBS, *g.CLAUSE_VERBS):
        assert re.search("n$", verb.de), verb.de
        assert re.search("[tß]$", verb.third), verb.de
        assert re.search("[tn]$", verb.de_participle), verb.de
        assert verb.de_participle.startswith(verb.prefix), verb.de
        assert verb.objects == "-" or g.nouns_of(verb.objects), verb.en


# ---------------------------------------------------------------------------- clauses, word order

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
        (
            clause("we", "dream_of", phrase("bear")),
            "main",
            ("We dream of the bear.", "Wir träumen vom Bären."),
        ),
        (
            clause(THE_MAN, "read", phrase("book", "a"), front=TODAY),
            "main",
            ("Today the man reads a book.", "Heute liest der Mann ein Buch."),
        ),
        # separable verbs: apart, joined, with ge and with zu inside
        (
            clause(THE_MAN, "open", THE_WINDOW),
            "main",
            ("The man opens the window.", "Der Mann macht das Fenster auf."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW),
            "final",
            ("The man opens the window.", "Der Mann das Fenster aufmacht."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW, tense="perfect"),
            "main",
            ("The man has opened the window.", "Der Mann hat das Fenster aufgemacht."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW, tense="would like"),
            "main",
            ("The man would like to open the window.", "Der Mann möchte das Fenster aufmachen."),
        ),
        (
            clause(THE_MAN, "open", THE_WINDOW),
            "infinitive",
            ("To open the window.", "Das Fenster aufzumachen."),
        ),
        (clause("she", "pick|up", "we"), "main", ("She picks us up.", "Sie holt uns ab.")),
        (
            clause("she", "pick|up", phrase("boy")),
            "main",
            ("She picks up the boy.", "Sie holt den Jungen ab."),
        ),
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
        (
            clause("I", "have", phrase("dog", "a"), tense="past"),
            "main",
            ("I had a dog.", "Ich hatte einen Hund."),
        ),
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
def test_clause(made, mode, expected):
    assert both(made, mode, "?" if mode == "question" else ".") == expected


@pytest.mark.parametrize(
    ("name", "forms", "past", "german"),
    [
        ("I", "am", "was", "bin war"),
        ("you", "are", "were", "bist warst"),
        ("she", "is", "was", "ist war"),
        ("they", "are", "were", "sind waren"),
    ],
)
def test_copula(name, forms, past, german):
    young = ((ADJECTIVES["young"].en, ADJECTIVES["young"].de),)
    for tense, english, verb in zip(("present", "past"), (forms, past), german.split(), strict=True):
        made = g.Clause(PRONOUN[name], g.COPULA, tense, extras=young)
        subject = PRONOUN[name].de["nom"].capitalize()
        expected = (f"{name[0].upper()}{name[1:]} {english} young.", f"{subject} {verb} jung.")
        assert both(made) == expected


def test_relative_clauses():
    boys = phrase("boy", number="p")
    assert g.relative_clause(boys, clause(boys, "fall_asleep")) == (
        "who fall asleep",
        "die einschlafen",
    )
    assert g.relative_clause(boys, clause("I", "help", gap=True)) == ("whom I help", "denen ich helfe")
    bear = phrase("bear")
    assert g.relative_clause(bear, clause("I", "think_of", gap=True)) == (
        "that I think of",
        "an den ich denke",
    )
    seen = clause(
        "we",
        "see",
        phrase("cat", "a"),
        tense="perfect",
        relative=g.relative_clause(phrase("cat"), clause(phrase("cat"), "sleep")),
    )
    assert both(seen) == (
        "We have seen a cat that sleeps.",
        "Wir haben eine Katze gesehen, die schläft.",
    )


def test_subordinate_clause_in_front_inverts_the_main_clause():
    condition = clause(phrase("guest"), "arrive")
    front = (f"if {g.english(condition, 'final')} ,", f"wenn {g.german(condition, 'final')} ,")
    assert both(clause(THE_MAN, "close", THE_WINDOW, front=front)) == (
        "If the guest arrives, the man closes the window.",
        "Wenn der Gast ankommt, macht der Mann das Fenster zu.",
    )


def test_infinitive_after_a_verb(monkeypatch):
    main = g.Clause(PRONOUN["he"], VERB_OF_CLAUSE["promise"], "perfect")
    monkeypatch.setattr(g, "random_clause", lambda *_: clause("he", "invite", "you", negated=True))
    assert g.with_infinitive(random.Random(0), main, "", "") == (
        "He has promised not to invite you.",
        "Er hat versprochen, dich nicht einzuladen.",
    )


def test_commas_merge_and_none_stands_before_the_final_mark():
    assert g.sentence("ich sehe den Hund , der schläft , , weil ich wache ,") == (
        "Ich sehe den Hund, der schläft, weil ich wache."
    )


def test_place_is_contracted_only_before_an_article():
    assert g.prepositional("in", "dem alten Park") == "im alten Park"
    assert g.prepositional("an", "dem See") == "am See"
    assert g.prepositional("auf", "dem Sofa") == "auf dem Sofa"
    assert g.prepositional("in", "der Küche") == "in der Küche"
    assert g.prepositional("in", "diesem Park") == "in diesem Park"


# ------------------------------------------------------------------------------ drawn sentences


@pytest.fixture(scope="module")
def drawn():
    """Many sentence pairs straight from the grammar."""
    rng = random.Random(20)
    return [g.derive(rng) for _ in range(12000)]


def test_a_source_has_one_target(drawn):
    targets = {}
    for source, target in drawn:
        assert targets.setdefault(source, target) == target
    assert len(targets) > 11000


def test_surface_form(drawn):
    for source, target in drawn:
        assert source[-1] == target[-1]
        for text in (source, target):
            assert text[0].isupper(), text
            assert re.fullmatch(r"[A-Za-zÄÖÜäöüß']+(,? [A-Za-zÄÖÜäöüß']+)*[.?]", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", source, re.IGNORECASE), source
        assert not re.search(r"\b([Ii]n|[Aa]n|[Vv]on) dem [A-ZÄÖÜ]", target), target


def test_all_constructions_occur(drawn):
    text = "\n".join(target for _, target in drawn)
    words = "weil obwohl wenn während bevor dass ob um denen keinen nicht möchte musste jeden im nie schon"
    for word in words.split():
        assert re.search(rf"\b{word}\b", text, re.IGNORECASE), word
    for ending in ("auf", "zu", "ein", "aus", "an", "ab", "mit", "zurück"):
        assert re.search(rf" {ending}[.?]", text), ending
    nouns = {noun.de for noun in g.NOUNS.values()}
    nouns |= {noun.de_plural for noun in g.NOUNS.values() if not (noun.mass or "l" in noun.classes)}
    assert nouns <= set(re.findall(r"\w+", text))


def test_subordinate_clauses_end_in_the_verb(drawn):
    finite = {"ist", "war", "hat", "haben", "sind", "waren", "habe", "hast", "bin", "bist", "hatte", "hatten"}
    participles = {verb.de_participle for verb in g.ALL_VERBS}
    checked = 0
    for _, target in drawn:
        last = re.search(r", (?:weil|dass|ob|obwohl) ([^,]+)\.$", target)
        if last and not re.search(r" um$|\bund\b", last[1]):
            words = last[1].split()
            assert words[-1] not in participles or words[-2] not in finite, target
            assert words[-1] not in ("auf", "aus", "an", "ab", "ein", "mit", "zu", "zurück"), target
            checked += 1
    assert checked > 300


# -------------------------------------------------------------------------------------- program


def test_files_sizes_and_disjoint_splits(small):
    assert sorted(path.name for path in small.iterdir()) == sorted(FILES)  # no temporary file is left
    sizes = {"train": 300, "valid": 20, "test": 40}
    for language in ("en", "de"):
        texts = []
        for split, size in sizes.items():
            part = lines(small, f"{split}.{language}")
            assert len(part) == size
            texts += part
        assert len(set(texts)) == 360
        assert all(4 <= len(text.split()) <= 22 for text in texts)


def test_bytes_are_fixed(small):
    # When the grammar is changed on purpose, the new value is taken from the failure message.
    assert digest(small) == "ea441caa9876df59a2ebdabd4224826aefc542eb1d2f8d5b8140c78ac809be0a"


def test_same_bytes_under_another_hash_seed(small, tmp_path):
    command = [sys.executable, str(SCRIPT), *SMALL, "--seed", "7", "--out", str(tmp_path)]
    environment = {"PYTHONHASHSEED": "5"}
    run = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert digest(tmp_path) == digest(small)
    printed = run.stdout.splitlines()
    assert [line.split(":")[0] for line in printed[:3]] == ["train", "valid", "test"]
    assert "300 pairs" in printed[0]
    assert len(printed) > 5


def test_another_seed_gives_another_corpus(small, tmp_path):
    assert g.main([*SMALL, "--seed", "8", "--out", str(tmp_path)]) == 0
    assert not set(lines(tmp_path, "train.en")) >= set(lines(small, "train.en"))
    assert digest(tmp_path) != digest(small)


def test_held_out_sets_do_not_depend_on_the_size_of_train():
    one, other = (g.make_corpus({"train": size, "valid": 20, "test": 40}, 7) for size in (10, 50))
    assert one["test"] == other["test"]
    assert one["valid"] == other["valid"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--train", "0"), "--train 0"),
        (("--valid", "-3"), "--valid -3"),
        (("--test", "0"), "--test 0"),
        (("--seed", "-1"), "--seed -1"),
        (("--train", "900000000"), "900001500"),
    ],
)
def test_bad_values_are_named(arguments, message, tmp_path, capsys):
    assert g.main([*arguments, "--out", str(tmp_path / "new")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_exhausted_grammar_is_an_error(monkeypatch):
    monkeypatch.setattr(
        g,
        "derive",
        lambda rng: (f"I see {g.pick(rng, 'abc')} cats.", f"Ich sehe {g.pick(rng, 'xyz')} Katzen."),
    )
    with pytest.raises(g.CorpusError, match=r"^50 different .* after 3 .* ask for fewer"):
        g.generate(50, 1)


def test_out_that_is_a_file_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert g.main([*SMALL, "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_leaves_no_temporary_files(tmp_path):
    (tmp_path / "valid.de").mkdir()  # a file cannot take its place
    with pytest.raises(g.CorpusError, match=f"cannot write to --out '{re.escape(str(tmp_path))}'"):
        g.write_corpus(g.make_corpus({"train": 5, "valid": 5, "test": 5}, 1), tmp_path)
    assert not [path.name for path in tmp_path.iterdir() if path.name not in FILES]
