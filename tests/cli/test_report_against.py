"""``b2t report --against``: validation losses at different values of a setting, one line for each model."""

import itertools
import math

import pytest
from logs import START, reported, validated, write_log

from b2t_cli import main
from b2t_cli.reporting import against, output, tuning
from b2t_cli.runs import log, settings
from b2t_cli.runs.run import read_all
from b2t_common.errors import InputError
from b2t_common.model_line import ModelLine, format_model_line

WORDS = 1024
ENDED = "fairseq_cli.train | done training in 1 s"
LOSSES = {0.001: [5.0], 0.002: [4.0, 4.2], 0.004: [4.15], 0.008: [4.12], 0.016: [math.inf]}


def write_run(
    folder, rate, losses=(6, 5), scheme="b2t", seed=1, end="fairseq_cli.train | done training in 1 s", **model
):
    """Write the log of a short run as fairseq does, with as many validations as losses."""
    model = {"_name": "b2t_transformer", "residual": scheme, "encoder_layers": 2, "dropout": 0.0} | model
    configuration = {
        "common": {"seed": seed, "log_interval": 50},
        "optimization": {"max_update": 2 * len(losses), "lr": [rate], "sentence_avg": False},
        "checkpoint": {"save_dir": str(folder)},
        "model": model,
        "lr_scheduler": {"lr": [rate]},
    }
    line = ModelLine(scheme, "none", {"encoder": [0, 1], "decoder": [0, 1]}, 100, 100)
    start = [f"fairseq_cli.train | {configuration}", f"fairseq.tasks | [de] dictionary: {WORDS} types"]
    start += [f"b2t_fairseq | {format_model_line(line)}", START]
    reports = [
        text
        for number, loss in enumerate(losses, 1)
        for text in (reported(2 * number, loss, clip=50), validated(2 * number, loss))
    ]
    write_log(folder / "train.log", *start, *reports, *([end] if end else []))
    return folder


class TestTuning:
    def test_the_best_value_has_the_lowest_mean(self):
        tuned = tuning.tune(LOSSES, 10.0)
        assert (tuned.best, tuned.loss, tuned.at_edge) == (0.002, pytest.approx(4.1), "")
        assert tuned.window == (0.002, 0.008)

    def test_the_window_ends_where_a_loss_is_too_high(self):
        assert tuning.tune({1: [4.0], 2: [4.3], 3: [4.05]}, 10.0).window == (1, 1)

    @pytest.mark.parametrize(("values", "edge"), [((1, 2, 3), "lowest"), ((3, 2, 1), "highest"), ((2, 1, 2), "")])
    def test_a_best_value_at_the_edge_of_the_grid_is_known(self, values, edge):
        assert tuning.tune({index: [value] for index, value in enumerate(values)}, 10.0).at_edge == edge

    def test_sensitivity_is_the_mean_distance_from_the_best_loss(self):
        """A run that failed, or is worse than at the beginning, counts as the loss at the beginning."""
        assert tuning.sensitivity([4.0, 5.0, math.inf, 12.0], 10.0) == pytest.approx((0 + 1 + 6 + 6) / 4)
        assert tuning.tune(LOSSES, 10.0).sensitivity == pytest.approx((0.9 + 0 + 0.05 + 0.02 + 5.9) / 5)

    def test_where_every_value_fails_none_is_best(self):
        assert tuning.tune({1: [math.inf], 2: [4.0, math.inf]}, 10.0) is None


class TestSettings:
    def test_both_forms_of_fairseq_are_read(self):
        """A section may be a Namespace, and the name of a choice may have no quotation marks."""
        text = "{'common': {'seed': 1}, 'optimization': {'lr': [0.5], 'x': None}, 'model': Namespace(act=relu, seed=1)}"
        parsed = settings.parse(text)
        assert parsed["optimization"] == {"lr": [0.5], "x": None}
        assert parsed["model"] == {"act": "relu", "seed": 1}
        assert (settings.lookup(parsed, "lr"), settings.lookup(parsed, "nothing")) == (0.5, None)
        # the seed is of no model, in whatever section it stands
        assert settings.of_model(parsed) == {"lr": [0.5], "x": None, "act": "relu"}

    def test_a_line_that_is_cut_has_no_settings(self):
        assert settings.parse("{'common': {'seed': 1}, 'optim") == {}

    def test_settings_are_read_from_real_logs(self, logged_runs):
        for run in read_all([logged_runs / "simple", logged_runs / "a<b>&c"]):
            assert settings.lookup(run.settings, "lr") > 0
            assert settings.lookup(run.settings, "residual") == run.model.scheme


class TestLines:
    def test_runs_of_one_model_are_one_line(self, tmp_path):
        """Seeds and folders may differ; every other setting that differs makes another line, and names it."""
        runs = [write_run(tmp_path / f"a/{rate}-{seed}", rate, seed=seed) for rate in (0.1, 0.2) for seed in (1, 2)]
        runs += [write_run(tmp_path / "b", 0.1, dropout=0.1), write_run(tmp_path / "c", 0.1, scheme="pre_ln")]
        comparison = against.compare(read_all(runs), "--lr")
        lines = {line.name: line.losses for line in comparison.models}
        assert lines == {
            "b2t, N=2, --dropout 0.0": {0.1: [5, 5], 0.2: [5, 5]},
            "b2t, N=2, --dropout 0.1": {0.1: [5]},
            "pre_ln, N=2, --dropout 0.0": {0.1: [5]},
        }

    def test_failed_runs_are_infinite_and_unfinished_ones_are_left_out(self, tmp_path):
        write_run(tmp_path / "a", 0.1)
        write_run(tmp_path / "b", 0.2, end="fairseq | FloatingPointError: gradients are Nan/Inf")
        write_run(tmp_path / "c", 0.4, end="b2t | asked to stop: SIGTERM")
        # the configuration asks for more updates than it has
        path = tmp_path / "c/train.log"
        path.write_text(path.read_text().replace("'max_update': 4", "'max_update': 9"))
        comparison = against.compare(read_all(sorted(tmp_path.iterdir())), "lr")
        assert [line.losses for line in comparison.models] == [{0.1: [5], 0.2: [math.inf]}]
        assert comparison.left_out == ["c: training, so it is left out"]
        assert comparison.models[0].initial == 10

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("rate", "--against rate: .* has no setting of that name"),
            ("residual", "--against residual: it is 'b2t' in .*, and only single numbers can be compared"),
            ("sentence_avg", "it is False"),
        ],
    )
    def test_what_cannot_be_compared_is_an_error(self, tmp_path, name, message):
        with pytest.raises(InputError, match=message):
            against.compare(read_all([write_run(tmp_path / "a", 0.1)]), name)

    def test_losses_of_different_kinds_are_not_compared(self, tmp_path):
        runs = [write_run(tmp_path / "a", 0.1), write_run(tmp_path / "b", 0.2)]
        path = runs[1] / "train.log"
        path.write_text(path.read_text().replace("'sentence_avg': False", "'sentence_avg': True"))
        with pytest.raises(InputError, match="cannot be compared: bits per target token; bits per sentence"):
            against.compare(read_all(runs), "lr")


class TestCommand:
    def test_the_best_rate_is_printed_and_drawn(self, tmp_path, capsys):
        """The table has a row for each model, with a warning at the edge of the grid; the figure is on the page."""
        losses = {0.1: 4.5, 0.2: 4.0, 0.4: 4.06}
        runs = [str(write_run(tmp_path / f"runs/b2t{rate}", rate, (6, loss))) for rate, loss in losses.items()]
        runs += [
            str(write_run(tmp_path / f"runs/pre_ln{rate}", rate, (6, 5 - rate), scheme="pre_ln")) for rate in losses
        ]
        out = tmp_path / "report"
        assert main(["report", *runs, "--against", "lr", "--output", str(out)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "b2t, N=2 3 0 0.2 4.000 0.2 to 0.4 0.187" in printed
        assert "pre_ln, N=2 3 0 0.4 4.600 0.4 0.167" in printed
        assert "warning: the best lr of pre_ln, N=2, 0.4, is the highest one that was tried" in printed
        assert "of b2t, N=2, 0.2, is" not in printed
        assert (out / "against.png").is_file()
        assert 'id="against"' in (out / output.PAGE).read_text()
        assert main(["report", *runs, "--output", str(out)]) == 0
        assert not (out / "against.png").exists()

    def test_failed_runs_stand_at_the_edge_of_the_figure(self):
        from matplotlib.figure import Figure

        axes = Figure().add_subplot()
        handles = against.plot(axes, {"a": {0.1: [4.0], 0.2: [3.0, 3.2], 0.4: [3.0, math.inf]}})
        assert list(handles["a"].get_ydata()) == [4.0, 3.1]
        (failed,) = [line for line in axes.lines if line.get_marker() == "x"]
        assert list(failed.get_xdata()) == [0.4]
        assert failed.get_ydata()[0] > 0.9
        assert axes.get_xscale() == "log"

    @pytest.mark.parametrize("count", [2, 6, 7, 9])
    def test_the_values_below_a_figure_do_not_overlap(self, count):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.9, against.HEIGHT), layout="constrained")
        axes = figure.add_subplot()
        against.plot(axes, {"a": {0.00025 * 2**power: [4.0] for power in range(count)}})
        FigureCanvasAgg(figure).draw()
        labels = axes.get_xticklabels()
        assert len(labels) == count
        for first, second in itertools.pairwise(labels):
            distance = second.get_window_extent().get_points().mean(0) - first.get_window_extent().get_points().mean(0)
            if first.get_rotation():
                # of two slanting lines of text
                assert distance[0] * math.sin(math.radians(45)) > first.get_fontsize() * figure.dpi / 72
            else:
                assert not first.get_window_extent().overlaps(second.get_window_extent())


def test_the_share_of_clipped_updates_counts_each_update_once(tmp_path):
    """Reports have the percentage of the updates since the report before; a training without clipping has none."""
    path = write_log(tmp_path / "a/train.log", START, reported(10, 5, clip=100), reported(40, 5, clip=0))
    write_log(tmp_path / "b/train.log", START, reported(10, 5))
    clipped, unclipped = read_all(sorted(tmp_path.iterdir()))
    assert clipped.clipped() == pytest.approx(0.25)
    assert unclipped.clipped() is None
    assert log.read(path).train["clip"].tolist() == [100, 0]
