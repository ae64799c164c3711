"""The table and the figures of ``b2t analyze`` show what was measured, of unusual models too."""

import statistics
from xml.etree import ElementTree

import pytest
from analysis import SETS, analyzed, language_model, norms, observed, root_mean_square, translation

from b2t_cli import style
from b2t_cli.analysis import figures, summary
from b2t_fairseq.layer_stack import layer_stacks


class TestTable:
    @pytest.mark.parametrize("scheme", ["post_ln", "pre_ln", "mix_ln", "rezero"])
    def test_cells_summarize_the_measured_numbers(self, scheme):
        run = observed("translation", scheme)
        table = summary.table([run.result], "some tokens")
        for stack, row in zip(layer_stacks(run.model), table.rows, strict=True):
            cells = dict(zip(table.header, row, strict=True))
            layers = stack.layer_list()
            ends = [root_mean_square(run.seen[layers[0]][2]), root_mean_square(run.seen[layers[-1]][3])]
            assert float(cells["gradient"]) == pytest.approx(ends[0] / ends[1], rel=0.01)
            on_the_way = {"post_ln": len(layers), "mix_ln": len(layers) // 4}.get(scheme, 0)
            ratios = [
                root_mean_square(run.seen[norm][2]) / root_mean_square(run.seen[norm][3])
                for layer in layers[:on_the_way]
                for norm in norms(layer)
            ]
            if ratios:
                assert float(cells["norm passes"]) == pytest.approx(statistics.median(ratios), abs=0.006)
            else:
                assert cells["norm passes"] == "-"
            angles = [layer["angle"] for layer in run.result["stacks"][stack.name]["layers"]]
            assert cells["idlest layer"] == str(angles.index(min(angles)) + 1)
            assert float(cells["its angle"]) == pytest.approx(min(angles), abs=0.06)
            assert (cells["N"], cells["M"]) == (str(len(layers)),) * 2

    def test_cells_of_a_diverged_model_are_empty(self):
        model, batches = translation(residual="post_ln")
        model.encoder.layers[0].fc1.weight.data.fill_(float("nan"))
        table = summary.table([analyzed(model, batches)], "")
        cells = dict(zip(table.header, table.rows[1], strict=True))
        assert (cells["gradient"], cells["norm passes"], cells["its angle"]) == ("-", "-", "-")


class TestFigures:
    def test_unusual_models_are_drawn_side_by_side(self, monkeypatch):
        """Names may be formulas to matplotlib, or hidden; a model may have NaN, one layer, one stack, another depth."""
        monkeypatch.setattr(figures, "PANELS", (figures.GRADIENT,))
        monkeypatch.setattr(style, "KINDS", ("svg",))
        diverged, batches = translation()
        diverged.encoder.layers[0].fc1.weight.data.fill_(float("nan"))
        models = {
            "$bad{$": analyzed(*translation(layer_sharing="cycle", **SETS)),
            "_nan": analyzed(diverged, batches),
            "one": analyzed(*translation(encoder_layers=1, decoder_layers=1)),
            "a language model of a very long name, far longer than a legend is wide": analyzed(*language_model()),
        }
        drawn = figures.draw([{**model, "name": name} for name, model in models.items()])
        assert list(drawn) == ["analysis", "gradient", "shared_sets"]
        for name, files in drawn.items():
            text = "".join(ElementTree.fromstring(files["svg"]).itertext())
            assert "$bad{$" in text
            assert name == "shared_sets" or ("_nan" in text and "a language model of a " in text)
            assert "legend is wide" not in text or "\u2026" in text

    def test_a_single_layer_is_drawn_as_a_mark(self, monkeypatch):
        """A line of one point would not be visible."""
        seen = []
        monkeypatch.setattr(style, "files", lambda figure: seen.append(figure) or {})
        figures.draw([analyzed(*translation(encoder_layers=1, decoder_layers=1))])
        lines = [line for figure in seen for axes in figure.axes for line in axes.lines if len(line.get_xdata())]
        assert len(lines) > 2 * len(figures.PANELS)
        assert all(len(line.get_xdata()) > 1 or line.get_marker() not in (None, "None") for line in lines)

    def test_an_exploding_model_does_not_flatten_the_others(self, monkeypatch):
        """It is cut off, and the legend says so."""
        seen = []
        monkeypatch.setattr(style, "files", lambda figure: seen.append(figure) or {})
        monkeypatch.setattr(figures, "PANELS", (figures.GRADIENT,))
        models = [analyzed(*translation(), scale) for scale in (1.0, 2.0, 1e9)]
        figures.draw(models)
        (legend,) = seen[0].legends
        assert ["beyond" in text.get_text() for text in legend.get_texts()] == [False, False, True]
        highest = max(layer["gradient"] for layer in models[1]["stacks"]["decoder"]["layers"])
        assert highest < seen[0].axes[0].get_ylim()[1] < 100 * highest
