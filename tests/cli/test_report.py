"""``b2t report``: one page about several runs, with figures and a table, that needs no other file."""

import json
import re
import sys
from html.parser import HTMLParser

import pytest
from logs import START, falling, reported, synthetic, write_log

from b2t_cli import main
from b2t_cli.reporting import figures, output
from b2t_cli.runs import log
from b2t_cli.runs.run import read_all
from b2t_cli.scoring import published
from b2t_cli.scoring.newstest import NEWSTESTS


class Page(HTMLParser):
    """The tags and the words of a page; fails if its tags do not match."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def scored(logged_runs):
    """Give the first run scores, as if it were the model of a row of the papers; return that row."""
    row = published.results()[0]
    score = {"score": 20.0, "signature": "nrefs:1"}
    scores = {
        "run": "x",
        "language_pair": "en-de",
        "parameters": 7,
        "layers": {"encoder": 6, "decoder": 6},
        "unique_layers": {"encoder": 6, "decoder": 6},
        "settings": {},
        "sets": {name: {"sacrebleu": name, "segments": 1, "metrics": {"BLEU": score}} for name in NEWSTESTS},
        "average": {"BLEU": 20.0},
        "missing": [],
        "published": [{"row": row, "difference": 20.0 - row["average"]}],
    }
    (logged_runs / "simple/evaluation").mkdir(exist_ok=True)
    path = logged_runs / "simple/evaluation/scores.json"
    path.write_text(json.dumps(scores))
    yield row
    path.unlink()


def test_the_page_is_whole_and_self_contained(logged_runs, scored, tmp_path, capsys):
    odd, plain = logged_runs / "a<b>&c", logged_runs / "simple"
    assert main(["report", str(odd), str(plain), "--output", str(tmp_path / "out")]) == 0
    names = {f"{plot.name}.{kind}" for plot in figures.PLOTS for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"report.html"}
    assert (tmp_path / "out/training_loss.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    assert "a<b>&c" in page.words
    assert "a<b>" not in text
    assert text.count("<svg ") == len(figures.PLOTS)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    # It needs no other file and no network.
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert "http" not in text.replace(str(tmp_path), "")
    references = [
        value for _, attributes in page.tags for name, value in attributes.items() if "href" in name or name == "src"
    ]
    assert all(reference[0] == "#" and reference[1:] in ids for reference in references)
    assert not re.search(r"url\((?!#)|@import", text)
    # The scores stand beside the papers' row of this model, and no other row.
    assert f"{scored['average']:.2f}" in page.words
    assert f"{scored['model']} *" in page.words
    assert f"{published.results()[3]['average']:.2f}" not in page.words
    printed = capsys.readouterr().out
    assert re.search(r"a<b>&c +finished .* 13 of 13 ", printed)
    assert re.search(r"simple +finished .* 20\.00\n", printed)


def test_text_needs_no_matplotlib(logged_runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(logged_runs / "simple"), "--text"]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["report", str(logged_runs / "simple")]) == 1
    assert "pip install 'b2t_fairseq[report]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_and_its_log_are_one_run(logged_runs):
    """Names are as long as is needed to distinguish the runs."""
    runs = read_all([logged_runs / "simple", logged_runs / "simple/train.log", logged_runs / "a<b>&c"])
    assert [run.name for run in runs] == ["simple", "a<b>&c"]


def test_legends_show_names_that_matplotlib_would_change(tmp_path):
    """It hides labels that begin with an underscore, and reads dollars as formulas."""
    for name in ("_hidden", "$\\x$"):
        write_log(tmp_path / name / "train.log", START, reported(1, 5), reported(2, 4))
    drawn = figures.draw(read_all(sorted(tmp_path.iterdir())))
    for kinds in drawn.values():
        assert b"_hidden" in kinds["svg"]
        assert b"$\\x$" in kinds["svg"]


def test_a_long_log_gives_a_small_figure(tmp_path):
    path = write_log(tmp_path / "train.log", START, *(reported(update, 4 + update % 7) for update in range(1, 20_001)))
    updates, losses = figures.points(log.read(path).train, "loss", 300)
    assert len(updates) == len(losses) == 300
    assert losses.min() == losses.max() == 7


def test_the_first_losses_do_not_flatten_the_rest_of_the_figure(tmp_path):
    points = figures.points(synthetic(tmp_path, [500.0, *falling()[1:]]).train, "loss", 300)
    assert figures.loss_range([points])[1] < 15


def test_files_are_written_whole_or_not_at_all(tmp_path):
    """A report that fails leaves the files of the one before; one with fewer files removes the others."""
    output.write(tmp_path, {"report.html": b"old", "training_loss.png": b"old"})
    with pytest.raises(TypeError):
        output.write(tmp_path, {"report.html": b"new", "training_loss.png": None})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "report.html": b"old",
        "training_loss.png": b"old",
    }
    output.write(tmp_path, {"report.html": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("files", "run", "message"),
    [
        ([], "nowhere", "nowhere: there is no such run"),
        (["run/x.txt"], "run", "run has no train.log and no other .log"),
        (["run/a.log", "run/b.log"], "run", "run has no train.log but a.log, b.log; give one of them"),
        (["run/train.log"], "run", "run/train.log is not a log of fairseq-train"),
    ],
)
def test_runs_that_cannot_be_read_are_errors(tmp_path, capsys, files, run, message):
    for name in files:
        write_log(tmp_path / name, "nothing of a training")
    assert main(["report", str(tmp_path / run), "--text"]) == 1
    assert message in capsys.readouterr().err.replace(f"{tmp_path}/", "")


def test_an_output_that_cannot_be_written_is_an_error(logged_runs, tmp_path, capsys):
    (tmp_path / "file").touch()
    for target, message in (("file", "is a file"), ("no/such", "there is no folder")):
        assert main(["report", str(logged_runs / "simple"), "--output", str(tmp_path / target)]) == 1
        assert message in capsys.readouterr().err


def test_damaged_scores_are_an_error(scored, logged_runs, capsys):
    (logged_runs / "simple/evaluation/scores.json").write_text("{")
    assert main(["report", str(logged_runs / "simple"), "--text"]) == 1
    assert "scores.json is damaged" in capsys.readouterr().err
