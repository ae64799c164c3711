"""b2t report: logs are read as fairseq writes them, diverged runs are told from others, and the page is whole."""

import json
import logging
import math
import os
import random
import re
import sys
from contextlib import contextmanager
from html.parser import HTMLParser

import pytest
from training import SHARED, binarize, train, write_corpus

from b2t_cli import main
from b2t_cli.reporting import figures, output, summary
from b2t_cli.runs import divergence, log
from b2t_cli.runs.run import Model, read_all
from b2t_cli.scoring import published
from b2t_cli.scoring.newstest import NEWSTESTS

PREFIX = "2026-01-01 10:00:00 | INFO | "
SETTINGS = (
    "fairseq_cli.train | {'common': {}, 'optimization': {'max_update': 4000, 'sentence_avg': False}, "
    "'criterion': {'_name': 'label_smoothed_cross_entropy', 'label_smoothing': 0.1}}"
)
START = "fairseq_cli.train | training on 1 devices (GPUs/TPUs)"
UPDATES = range(100, 4001, 100)


def inner(update, loss, **values):
    values = {"loss": loss, "nll_loss": loss, "wps": 1000, "num_updates": update, "lr": 0.001, "gnorm": 0.5} | values
    return f"train_inner | epoch 001:  {update} / 99 " + ", ".join(f"{k}={v}" for k, v in values.items())


def valid(update, loss, subset="valid"):
    return (
        f"{subset} | epoch 001 | valid on '{subset}' subset | loss {loss} | nll_loss {loss} | ppl {2**loss:.2f} | "
        f"num_updates {update}"
    )


def write(path, *messages, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(PREFIX + message for message in messages) + end)
    return path


def synthetic(tmp_path, losses, *after, vocabulary=32000):
    """Return the log of 40 reports, one per 100 updates."""
    start = (SETTINGS, f"fairseq.tasks | [de] dictionary: {vocabulary} types", START)
    reports = [inner(update, f"{loss:.3f}") for update, loss in zip(UPDATES, losses, strict=True)]
    return log.read(write(tmp_path / "train.log", *start, *reports, *after))


def falling(seed=0, noise=0.1, low=4.0):
    generator = random.Random(seed)
    return [low + 11 * math.exp(-update / 500) + generator.gauss(0, noise) for update in UPDATES]


@contextmanager
def logged(path):
    """Write what is logged to a file, as the command's own log has it."""
    path.parent.mkdir(exist_ok=True)
    root, handler = logging.getLogger(), logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)s | %(name)s | %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same training in both log formats, the second in two parts."""
    folder = tmp_path_factory.mktemp("report")
    write_corpus(folder)
    data = binarize(folder)
    with logged(folder / "simple/train.log"):
        train(data, folder / "simple", *SHARED, "--log-format", "simple", "--max-update", "13")
    for updates in ("8", "13"):
        with logged(folder / "a<b>&c/train.log"):
            train(data, folder / "a<b>&c", *SHARED, "--log-format", "json", "--max-update", updates)
    return folder


class TestLog:
    def test_formats_agree(self, trained):
        simple, resumed = (log.read(trained / name / "train.log") for name in ("simple", "a<b>&c"))
        assert list(simple.train["update"]) == list(range(1, 14)) == list(resumed.train["update"])
        assert (simple.starts, resumed.starts) == (1, 2)
        for column in ("loss", "nll_loss", "ppl", "lr"):
            assert list(simple.train[column]) == list(resumed.train[column])
        # one validation more: at the end of the first part
        assert list(simple.validation()["update"]) == [5, 10, 13]
        assert list(resumed.validation()["update"]) == [5, 8, 10, 13]
        assert simple.validation().last("ppl") == resumed.validation().last("ppl")
        assert list(simple.epochs["update"]) == [5, 10, 13]
        assert [simple.max_update, simple.label_smoothing, simple.vocabulary] == [13, 0.1, 32]

    def test_numbers_are_the_lines(self, trained):
        line = re.search(r"train_inner .*num_updates=7,.*", (trained / "simple/train.log").read_text())[0]
        read = log.read(trained / "simple/train.log").train
        for column in ("loss", "nll_loss", "lr", "gnorm", "wps"):
            assert read[column][6] == float(re.search(rf"\b{column}=([^,]+)", line)[1])

    def test_model(self, trained):
        read = log.read(trained / "simple/train.log")
        sets = [0, 1, 1, 0]
        assert read.model.layer_sharing == SHARED[1]
        assert read.model.parameter_sets == {"encoder": sets, "decoder": sets}
        assert 0 < read.parameters == read.model.parameters < 22_784

    def test_later_lines_supersede(self, tmp_path):
        before = [START, *(inner(update, 9 - update) for update in range(1, 7)), valid(3, 5.0), valid(6, 4.0)]
        read = log.read(write(tmp_path / "train.log", *before, START, inner(4, 2), inner(5, 1)))
        assert list(read.train["update"]) == [1, 2, 3, 4, 5]
        assert list(read.train["loss"]) == [8, 7, 6, 2, 1]
        assert list(read.validation()["update"]) == [3]
        assert list(read.train["start"]) == [1, 0, 0, 1, 0]

    def test_half_lines(self, tmp_path):
        """Cut anywhere, or cut and continued on the same line by the next start: never a wrong number."""
        whole, next_line = inner(1, 5.25), inner(2, 4.125, lr=0.5)
        for length in range(len(PREFIX + next_line) + 1):
            cut = (PREFIX + next_line)[:length]
            path = tmp_path / "train.log"
            path.write_text(f"{PREFIX}{whole}\n{cut}")
            assert list(log.read(path).train["update"]) == [1]
            path.write_text(f"{PREFIX}{whole}\n{cut}{PREFIX}x | y\n{PREFIX}{inner(3, 4.5)}\n")
            read = log.read(path).train
            assert set(read["update"]) <= {1, 2, 3}
            assert set(read["loss"]) <= {5.25, 4.125, 4.5}
            assert set(read["lr"][~(read["lr"] != read["lr"])]) <= {0.001, 0.5}

    def test_several_subsets(self, tmp_path):
        read = log.read(write(tmp_path / "train.log", inner(1, 5), valid(1, 4.0, "valid"), valid(1, 3.0, "valid1")))
        assert list(read.valid) == ["valid", "valid1"]
        assert list(read.validation()["loss"]) == [4.0]

    def test_epochs_stand_in_for_reports(self, tmp_path):
        """--log-format tqdm, the default in a terminal, logs no others."""
        epochs = [f"train | epoch 00{e} | loss {6 - e} | nll_loss 3 | num_updates {50 * e} | lr 0.1" for e in (1, 2)]
        assert list(log.read(write(tmp_path / "train.log", *epochs)).training()["loss"]) == [5, 4]


class TestDivergence:
    @pytest.mark.parametrize("seed", range(20))
    def test_fluctuation_is_none(self, tmp_path, seed):
        """Much noise, spikes, a bump that passes, a slow rise within the noise."""
        losses = falling(seed, noise=0.4)
        losses[seed + 5] += 6
        losses[30:38] = [loss + 3 for loss in losses[30:38]]
        assert divergence.find(synthetic(tmp_path, losses)) is None
        drifting = [loss + update / 10_000 for loss, update in zip(falling(seed), UPDATES, strict=True)]
        assert divergence.find(synthetic(tmp_path, drifting)) is None

    def test_rise(self, tmp_path):
        losses = falling()
        losses[25:] = [min(10, 4 + index / 2) for index in range(1, 16)]
        found = divergence.find(synthetic(tmp_path, losses))
        # the line is about 4.1 + 1 bits, and the loss crosses it half a bit a report
        assert 2600 <= found.update <= 2900
        assert "rose from 4." in found.reason

    def test_rise_must_last(self, tmp_path):
        losses = falling()
        losses[-9:] = [9.0] * 9
        assert divergence.find(synthetic(tmp_path, losses)) is None

    def test_stuck(self, tmp_path):
        """About the 10.9 bits of a unigram model; with a falling loss, or well below it, the run goes on."""
        losses = [10.5 + 4 * math.exp(-update / 300) for update in UPDATES]
        found = divergence.find(synthetic(tmp_path, losses))
        assert "no better than a unigram model of 32,000 words" in found.reason
        assert divergence.find(synthetic(tmp_path, falling(low=8.0))) is None
        learning = [10.5 - update / 4000 for update in UPDATES]
        assert divergence.find(synthetic(tmp_path, learning)) is None
        assert divergence.find(synthetic(tmp_path, losses, vocabulary=50)) is None
        warming_up = [inner(update, loss, lr=update) for update, loss in zip(UPDATES, losses, strict=True)]
        assert divergence.find(synthetic(tmp_path, losses, *warming_up)) is None

    @pytest.mark.parametrize("values", [{"loss": "nan"}, {"loss": "inf"}, {"gnorm": "nan"}])
    def test_not_finite(self, tmp_path, values):
        reports = [inner(update, **{"loss": 4.0} | values) for update in (4100, 4200)]
        found = divergence.find(synthetic(tmp_path, falling(), *reports))
        assert found.update == 4100
        assert "not finite" in found.reason
        assert divergence.find(synthetic(tmp_path, falling(), *reports, inner(4300, 4.0))) is None

    def test_json_nan(self, tmp_path):
        line = '{"epoch": 1, "loss": "nan", "num_updates": "4100", "gnorm": "0.5"}'
        assert divergence.find(synthetic(tmp_path, falling(), f"train_inner | {line}")).update == 4100

    def test_gave_up(self, tmp_path):
        error = "FloatingPointError: Minimum loss scale reached (0.0001). Your loss is probably exploding."
        path = write(tmp_path / "train.log", START, inner(1, 9), inner(2, 8))
        path.write_text(f"{path.read_text()}Traceback (most recent call last):\n{error}\n")
        found = divergence.find(log.read(path))
        assert found == (2, "fairseq gave up: Minimum loss scale reached (0.0001)")
        # restarted from an earlier checkpoint, and it went well
        path.write_text(path.read_text() + f"{PREFIX}{START}\n{PREFIX}{inner(2, 7)}\n")
        assert divergence.find(log.read(path)) is None


class TestState:
    def state(self, tmp_path, *messages, age=0.0):
        path = write(tmp_path / "run/train.log", SETTINGS, START, inner(100, 5, wall=10), *messages)
        return read_all([path.parent])[0].state(os.path.getmtime(path) + age)

    def test_states(self, tmp_path):
        done = "fairseq_cli.train | done training in 3.0 seconds"
        asked = "b2t_fairseq.stopping | asked to stop: ending after update 100 with a checkpoint"
        assert self.state(tmp_path) == "training"
        assert self.state(tmp_path, age=601) == "stopped"
        # it was as silent before
        assert self.state(tmp_path, inner(200, 5, wall=1010), age=2900) == "training"
        assert self.state(tmp_path, done) == "finished"
        assert self.state(tmp_path, inner(4000, 5), age=1e6) == "finished"
        assert self.state(tmp_path, asked, done) == "stopped"
        assert self.state(tmp_path, asked, done, START) == "training"
        assert self.state(tmp_path, inner(200, "nan")) == "diverged at 200"

    def test_nothing_logged_yet(self, tmp_path):
        run = read_all([write(tmp_path / "run/train.log", SETTINGS, START).parent])[0]
        cells = summary.cells(run)
        assert cells["updates"] == "0 of 4,000"
        assert [cells[name] for name in ("scheme", "N", "parameters", "loss", "valid loss", "tokens/s")] == [""] * 6

    def test_model_from_the_checkpoint(self, trained, tmp_path):
        """A log that lost its beginning."""
        lines = (trained / "simple/train.log").read_text().splitlines(keepends=True)
        (tmp_path / "train.log").write_text("".join(line for line in lines if "| train_inner |" in line))
        assert read_all([tmp_path])[0].model == Model()
        os.symlink(trained / "simple/checkpoint_last.pt", tmp_path / "checkpoint_last.pt")
        assert read_all([tmp_path])[0].model == read_all([trained / "simple"])[0].model


class Balanced(HTMLParser):
    """Takes a page whose tags do not match for an error; keeps its tags and its text."""

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
def scored(trained):
    """Scores of the first run, as if it were the model of a row of the papers."""
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
    (trained / "simple/evaluation").mkdir(exist_ok=True)
    path = trained / "simple/evaluation/scores.json"
    path.write_text(json.dumps(scores))
    yield row
    path.unlink()


class TestReport:
    def test_page(self, trained, scored, tmp_path, capsys):
        odd, plain = trained / "a<b>&c", trained / "simple"
        assert main(["report", str(odd), str(plain), "--output", str(tmp_path / "out")]) == 0
        names = {f"{plot.name}.{kind}" for plot in figures.PLOTS for kind in ("png", "svg")}
        assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"report.html"}
        assert (tmp_path / "out/training_loss.png").read_bytes().startswith(b"\x89PNG")
        text = (tmp_path / "out/report.html").read_text()
        page = Balanced(text)
        assert "a<b>&c" in page.words
        assert "a<b>" not in text
        assert text.count("<svg ") == len(figures.PLOTS)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        # self-contained
        assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
        assert "http" not in text.replace(str(tmp_path), "")
        references = [
            value for _, found in page.tags for name, value in found.items() if "href" in name or name == "src"
        ]
        assert all(reference[0] == "#" and reference[1:] in ids for reference in references)
        assert not re.search(r"url\((?!#)|@import", text)
        # the scores, beside the papers' row of this model and no other
        assert f"{scored['average']:.2f}" in page.words
        assert f"{scored['model']} *" in page.words
        assert f"{published.results()[3]['average']:.2f}" not in page.words
        printed = capsys.readouterr().out
        assert re.search(r"a<b>&c +finished .* 13 of 13 ", printed)
        assert re.search(r"simple +finished .* 20\.00\n", printed)

    def test_text_needs_no_matplotlib(self, trained, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        assert main(["report", str(trained / "simple"), "--text"]) == 0
        assert "finished" in capsys.readouterr().out
        assert main(["report", str(trained / "simple")]) == 1
        assert "pip install 'b2t_fairseq[report]'" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_names(self, trained):
        """A run once, its log counting as the run; names are as long as it takes to tell runs apart."""
        found = read_all([trained / "simple", trained / "simple/train.log", trained / "a<b>&c"])
        assert [run.name for run in found] == ["simple", "a<b>&c"]

    def test_odd_names_in_legends(self, tmp_path):
        """A leading underscore hides matplotlib's labels, and dollars are formulas to it."""
        for name in ("_hidden", "$\\x$"):
            write(tmp_path / name / "train.log", START, inner(1, 5), inner(2, 4))
        drawn = figures.draw(read_all(sorted(tmp_path.iterdir())))
        for kinds in drawn.values():
            assert b"_hidden" in kinds["svg"]
            assert b"$\\x$" in kinds["svg"]

    def test_a_long_log_gives_a_small_figure(self, tmp_path):
        path = write(tmp_path / "train.log", START, *(inner(update, 4 + update % 7) for update in range(1, 20_001)))
        updates, losses = figures.points(log.read(path).train, "loss", 300)
        assert len(updates) == len(losses) == 300
        assert losses.min() == losses.max() == 7

    def test_first_losses_do_not_flatten_the_rest(self, tmp_path):
        points = figures.points(synthetic(tmp_path, [500.0, *falling()[1:]]).train, "loss", 300)
        assert figures.loss_range([points])[1] < 15

    def test_whole_or_not_at_all(self, tmp_path, monkeypatch):
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
    def test_errors(self, tmp_path, capsys, files, run, message):
        for name in files:
            write(tmp_path / name, "nothing of a training")
        assert main(["report", str(tmp_path / run), "--text"]) == 1
        assert message in capsys.readouterr().err.replace(f"{tmp_path}/", "")

    def test_wrong_output(self, trained, tmp_path, capsys):
        (tmp_path / "file").touch()
        for target, message in (("file", "is a file"), ("no/such", "there is no folder")):
            assert main(["report", str(trained / "simple"), "--output", str(tmp_path / target)]) == 1
            assert message in capsys.readouterr().err

    def test_damaged_scores(self, scored, trained, capsys):
        (trained / "simple/evaluation/scores.json").write_text("{")
        assert main(["report", str(trained / "simple"), "--text"]) == 1
        assert "scores.json is damaged" in capsys.readouterr().err
