"""``b2t mbr``: the candidate with the highest expected utility, by the definition and by sacreBLEU's own scores."""

import os
import random
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU, CHRF

from b2t_cli import main as b2t
from b2t_cli.mbr_decoding.utilities import expected_utilities, metric_of

WORDS = ["der", "Hund", "läuft", "über", "die", "Wiese", ",", "schnell", "und", "bellt", "."]


def candidates(seed, number=6):
    generator = random.Random(seed)
    return [" ".join(generator.choices(WORDS, k=generator.randint(3, 9))) for _ in range(number)]


SENTENCES = [[*candidates(seed), candidates(seed)[2]] for seed in range(5)]
REFERENCES = [lines[1] for lines in SENTENCES]


def write_output(path, sentences, sources=None):
    """Write what fairseq-generate prints, with the sentences in another order; return the name of the file."""
    output = []
    for index in reversed(range(len(sentences))):
        output += [f"S-{index}\t{sources[index] if sources else f'source {index}'}", f"T-{index}\t{REFERENCES[index]}"]
        output += [
            line for text in sentences[index] for line in (f"H-{index}\t-0.5\t{text}", f"D-{index}\t-0.5\t{text}")
        ]
    path.write_text("".join(f"{line}\n" for line in output), encoding="utf-8")
    return path.name


@pytest.fixture
def generated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref").write_text("".join(f"{line}\n" for line in REFERENCES))
    (tmp_path / "other").write_text("".join(f"line {index}\n" for index in range(5)))
    (tmp_path / "src").write_text("".join(f"source {index}\n" for index in range(5)))
    return write_output(tmp_path / "generated.txt", SENTENCES)


@pytest.mark.parametrize(("utility", "metric"), [("chrf", CHRF()), ("bleu", BLEU(effective_order=True))])
def test_expected_utilities_are_means_of_sentence_scores(utility, metric):
    for lines in SENTENCES:
        expected = [sum(metric.sentence_score(h, [r]).score for r in lines) / len(lines) for h in lines]
        assert expected_utilities(lines, metric_of(utility)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_best_candidate_is_chosen(generated, tmp_path, workers, capsys):
    """Whatever the number of processes; the table has the scores of the choice and of the first candidates."""
    flags = ["--workers", workers, "--reference", "ref", "--source", "src"]
    assert b2t(["mbr", generated, "--output", "out", *flags]) == 0
    chosen = (tmp_path / "out").read_text().splitlines()
    metric = CHRF()
    for lines, choice in zip(SENTENCES, chosen, strict=True):
        scores = [sum(metric.sentence_score(h, [r]).score for r in lines) for h in lines]
        assert choice == lines[scores.index(max(scores))]
    captured = capsys.readouterr()
    assert "5 of 5 sentences (100%)" in captured.err
    first = [lines[0] for lines in SENTENCES]
    for title, lines in (("first candidate", first), ("MBR", chosen)):
        (row,) = [line for line in captured.out.splitlines() if line.startswith(f"{title}  ")]
        assert row.split()[-3:-1] == [f"{m.corpus_score(lines, [REFERENCES]).score:.2f}" for m in (BLEU(), CHRF())]
    assert "5 sentences with 7.0 candidates, 6.0 of them different" in captured.out
    assert "utility: chrF2 of sentences|nrefs:1|case:mixed" in captured.out


def test_texts_from_pipes_are_read_once(generated, capsys):
    """As in ``--reference <(gzip -dc ref.gz)``; a second reader would find the pipe empty."""
    ends = []
    for name in ("src", "ref"):
        read_end, write_end = os.pipe()
        os.write(write_end, Path(name).read_bytes())
        os.close(write_end)
        ends.append(read_end)
    flags = ["--workers", "1", "--source", f"/dev/fd/{ends[0]}", "--reference", f"/dev/fd/{ends[1]}"]
    try:
        assert b2t(["mbr", generated, "--output", "out", *flags]) == 0
    finally:
        for end in ends:
            os.close(end)
    assert "length ratio" in capsys.readouterr().out


def test_candidates_of_several_outputs_are_taken_together(generated, tmp_path):
    """A sample that all others resemble wins over the best of the beam."""
    write_output(tmp_path / "beam.txt", [["nichts davon", "Der Hund"]] * 5)
    assert b2t(["mbr", "beam.txt", generated, "--output", "both", "--utility", "bleu", "--workers", "1"]) == 0
    assert b2t(["mbr", generated, "--output", "alone", "--utility", "bleu", "--workers", "1"]) == 0
    assert (tmp_path / "both").read_text() == (tmp_path / "alone").read_text()


@pytest.mark.parametrize(
    ("other", "flags", "message"),
    [
        ((SENTENCES[:4], None), [], "other.txt has 4 sentences, but generated.txt has 5"),
        ((SENTENCES, ["x", "b", "c", "d", "e"]), [], "sentence 0 is 'x', but 'source 0' there"),
        (None, ["--reference", "short"], "generated.txt has 5 sentences, but short has 2 lines"),
        (None, ["--reference", "other"], "than --reference other: its sentence 0 is "),
        (None, ["--source", "ref"], "its sentence 0 is 'source 0', but line 1 of the text is"),
        (([["one"]] * 5, None), ["alone"], "has one candidate for each sentence"),
        (([["a@@ b", "c"]] * 5, None), ["alone"], "has pieces of subword-nmt"),
        (None, ["--output", "nowhere/out"], "there is no folder nowhere"),
        (None, ["--output", "generated.txt"], "--output generated.txt is one of the files to read"),
        (None, ["--reference", "short", "--output", "short"], "--output short is one of the files to read"),
        (None, ["--comet-model", "x"], "--comet-model x has no effect with --utility chrf"),
        (None, ["--workers", "0"], "--workers 0: give a positive number"),
        (None, ["generated.txt"], "an output is given twice"),
    ],
)
def test_what_does_not_belong_together_is_refused(generated, tmp_path, other, flags, message, capsys):
    (tmp_path / "short").write_text("a\nb\n")
    files = [generated]
    if other:
        write_output(tmp_path / "other.txt", *other)
        files = ["other.txt"] if "alone" in flags else [generated, "other.txt"]
    flags = [flag for flag in flags if flag != "alone"]
    output = [] if "--output" in flags else ["--output", "out"]
    assert b2t(["mbr", *files, *flags, *output]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_sentences_are_named(generated, tmp_path, capsys):
    text = (tmp_path / generated).read_text().splitlines()
    (tmp_path / generated).write_text("\n".join(line for line in text if not line.startswith(("D-2", "S-2"))))
    assert b2t(["mbr", generated, "--output", "out"]) == 1
    assert "4 of 5 sentences; missing: 2;" in capsys.readouterr().err
