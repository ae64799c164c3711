"""b2t analyze: its numbers are those of plain computations, observing changes nothing, and the command is whole."""

import argparse
import copy
import functools
import itertools
import json
import math
import shutil
import statistics
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import torch
from golden import release_loss
from helpers import make_batch, make_model, make_task, randomize
from language_models import make_lm, make_lm_batch
from speech import make_speech_batch, make_speech_model
from torch import nn
from training import MODEL_FLAGS, SHARED, binarize, binarize_source, load, train, write_corpus

from b2t_cli import main, style
from b2t_cli.analysis import figures, measuring, subjects, summary
from b2t_cli.analysis.observing import Observer
from b2t_fairseq import admin_profile
from b2t_fairseq.layer_stack import layer_stacks
from b2t_fairseq.residual import SCHEMES
from b2t_fairseq.sharing import STRATEGIES, layer_indices

LAYERS = {"encoder_layers": 4, "decoder_layers": 6}
PADDING = 1
NORMS = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
NORM_AFTER = ("post_ln", "b2t", "admin", "deepnorm")
NORM_BEFORE = ("pre_ln", "dlcl", "ln_scaling")


def translation(**flags):
    """A model in float64 and two batches, the first with padding."""
    return randomize(make_model(**{**LAYERS, **flags})).double().eval(), [make_batch(), make_batch(None, 1, False)]


def language_model(**flags):
    batches = [counted(make_lm_batch(seed=seed)) for seed in (0, 1)]
    return randomize(make_lm(decoder_layers=4, **flags)).double().eval(), batches


def speech(**flags):
    batches = [counted(make_speech_batch(padding)) for padding in (True, False)]
    for batch in batches:
        batch["net_input"]["src_tokens"] = batch["net_input"]["src_tokens"].double()
    return randomize(make_speech_model(**{**LAYERS, **flags})).double().eval(), batches


def counted(batch):
    return {**batch, "ntokens": int(batch["target"].ne(PADDING).sum())}


KINDS = {"translation": translation, "language model": language_model, "speech": speech}
PAIRS = [(kind, scheme) for kind in ("translation", "language model") for scheme in SCHEMES]
each_kind = pytest.mark.parametrize("kind", KINDS)
each_kind_and_scheme = pytest.mark.parametrize(("kind", "scheme"), [*PAIRS, ("speech", "b2t")])


def loss_of(model, batch):
    return release_loss(model(**batch["net_input"])[0], batch["target"])


def analyzed(model, batches, scale=1.0):
    """What is measured of a copy, since measuring unties; the loss is that of :func:`loss_of`, scaled."""

    def criterion(model, batch):
        return scale * loss_of(model, batch), batch["ntokens"], {}

    source = {"checkpoint": None, "updates": 0}
    subject = subjects.Subject("a model", copy.deepcopy(model), criterion, make_task(), source)
    return measuring.analyze(subject, batches)


def norms(layer):
    found = [getattr(layer, name, None) for name in NORMS]
    return [norm for norm in found if isinstance(norm, nn.LayerNorm)]


def around(model, modules, batch):
    """For each module its input and output on a batch, and the gradients of the summed loss by the two."""
    seen = {}

    def keep(module, args, output):
        seen[module] = [args[0], output[0] if isinstance(output, tuple) else output]

    handles = [module.register_forward_hook(keep) for module in modules]
    loss = loss_of(model, batch)
    for handle in handles:
        handle.remove()
    ends = [tensor for module in modules for tensor in seen[module]]
    gradients = torch.autograd.grad(loss, ends)
    return {module: seen[module] + list(gradients[2 * i : 2 * i + 2]) for i, module in enumerate(modules)}


def is_token(model, stack, batch):
    """False at padding, ``(seq_len, batch)``."""
    if stack.name == "decoder":
        return batch["target"].ne(PADDING).t()
    source, lengths = batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
    if source.dim() == 2:
        return source.ne(PADDING).t()
    x, lengths = model.encoder.subsample(source, lengths)
    return torch.arange(len(x))[:, None] < lengths


@functools.cache
def observed(kind, scheme):
    """A model, what is measured of it, and by layer and norm what hooks see, ``(tokens, embed_dim)`` of all batches."""
    model, batches = KINDS[kind](residual=scheme)
    seen = {}
    for stack in layer_stacks(model):
        modules = [module for layer in stack.layer_list() for module in (layer, *norms(layer))]
        parts = []
        for batch in batches:
            kept = is_token(model, stack, batch)
            found = around(model, modules, batch)
            parts.append({module: [tensor[kept] for tensor in found[module]] for module in modules})
        seen |= {m: [torch.cat(ends) for ends in zip(*(part[m] for part in parts), strict=True)] for m in modules}
    losses = [loss_of(model, batch).item() for batch in batches]
    return SimpleNamespace(model=model, batches=batches, losses=losses, seen=seen, result=analyzed(model, batches))


def layers_of(run):
    """Each layer as stack, module and numbers."""
    assert list(run.result["stacks"]) == [stack.name for stack in layer_stacks(run.model)]
    for stack in layer_stacks(run.model):
        numbers = run.result["stacks"][stack.name]["layers"]
        assert [layer["layer"] for layer in numbers] == list(range(1, len(stack.layer_list()) + 1))
        for layer, found in zip(stack.layer_list(), numbers, strict=True):
            yield stack, layer, found


def root_mean_square(gradients):
    return math.sqrt(sum(float(gradient @ gradient) for gradient in gradients) / len(gradients))


def close(value):
    """Rounding of float64 in sums in another order."""
    return pytest.approx(float(value), rel=1e-9, abs=1e-14)


class TestNumbers:
    @each_kind_and_scheme
    def test_gradients_at_the_ends_of_layers(self, kind, scheme):
        run = observed(kind, scheme)
        for _, layer, found in layers_of(run):
            _, _, at_input, at_output = run.seen[layer]
            assert found["positions"][0]["gradient"] == close(root_mean_square(at_input))
            assert found["positions"][-1]["gradient"] == found["gradient"] == close(root_mean_square(at_output))

    @each_kind_and_scheme
    def test_positions(self, kind, scheme):
        """The layer's input, each norm's input and output, the layer's output, each tensor once, with its gradient."""
        run = observed(kind, scheme)
        for stack, layer, found in layers_of(run):
            names = ["self-attention", "feed-forward"]
            if kind != "language model" and stack.name == "decoder":
                names.insert(1, "cross-attention")
            _, _, at_input, at_output = run.seen[layer]
            inside = [
                (where, name, gradient)
                for name, norm in zip(names, norms(layer), strict=False)
                for where, gradient in zip(("before norm", "after norm"), run.seen[norm][2:], strict=True)
            ]
            post = scheme in NORM_AFTER or (scheme == "mix_ln" and found["layer"] <= len(stack.layer_list()) // 4)
            if post:
                expected = [("input", names[0], at_input), *inside]
            elif scheme in (*NORM_BEFORE, "mix_ln"):
                expected = [("input", names[0], at_input), *inside[1:], ("output", names[-1], at_output)]
            else:
                assert not inside
                labels = [(place["where"], place["sublayer"]) for place in found["positions"]]
                assert labels == [*(("input", name) for name in names), ("output", names[-1])]
                continue
            assert len(found["positions"]) == len(expected) == 2 * len(names) + 1
            for place, (where, name, gradient) in zip(found["positions"], expected, strict=True):
                assert (place["where"], place["sublayer"]) == (where, name)
                assert place["gradient"] == close(root_mean_square(gradient))

    @each_kind_and_scheme
    def test_changes(self, kind, scheme):
        run = observed(kind, scheme)
        for _, layer, found in layers_of(run):
            angles, changes, variances = [], [], []
            for x, y in zip(*run.seen[layer][:2], strict=True):
                cosine = float(x @ y / (x @ x).sqrt() / (y @ y).sqrt())
                angles.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
                changes.append(math.dist(x.tolist(), y.tolist()) / math.hypot(*x.tolist()))
                variances.append([statistics.pvariance(vector.tolist()) for vector in (x, y)])
            # the arc cosine loses half of the digits at small angles
            assert found["angle"] == pytest.approx(statistics.fmean(angles), abs=1e-5)
            assert found["change"] == close(statistics.fmean(changes))
            for name, values in zip(("input_variance", "variance"), zip(*variances, strict=True), strict=True):
                assert found[name] == close(statistics.fmean(values))

    @each_kind
    def test_loss(self, kind):
        run = observed(kind, "b2t")
        tokens = sum(int(batch["target"].ne(PADDING).sum()) for batch in run.batches)
        assert run.result["tokens"] == tokens
        assert run.result["sentences"] == sum(len(batch["target"]) for batch in run.batches)
        assert run.result["loss"] == close(sum(run.losses) / tokens / math.log(2))

    def test_rezero_starts_as_the_identity(self):
        model = make_model(residual="rezero", layer_sharing="cycle", encoder_unique_layers=3, decoder_unique_layers=3)
        result = analyzed(model, [make_batch()])
        for stack in result["stacks"].values():
            for layer in stack["layers"]:
                assert layer["angle"] == layer["change"] == layer["parameter_gradient"] == 0
                assert layer["variance"] == layer["input_variance"] == stack["layers"][0]["input_variance"]
            # between two zeros there is no angle
            assert [(one["gradient"], one["cosine"]) for one in stack["sets"]] == [(0, None)] * 3
        decoder = result["stacks"]["decoder"]["layers"]
        assert decoder[0]["positions"][0]["gradient"] == pytest.approx(decoder[-1]["gradient"], rel=1e-6)

    def test_small_angles(self):
        """An angle is as small as the weight of the layer's sub-layers, to below what a cosine can tell."""
        angles = []
        for alpha in (1e-5, 1e-10):
            model, batches = translation(residual="rezero")
            for stack in layer_stacks(model):
                for layer in stack.layer_list():
                    layer.residual.alpha.data.fill_(alpha)
            angles.append(analyzed(model, batches)["stacks"]["encoder"]["layers"][0]["angle"])
        assert angles[1] > 0
        assert angles[0] / angles[1] == pytest.approx(1e5, rel=1e-3)

    def test_gradients_that_vanish(self):
        """In float32, to which their squares are nothing, and to torch's cosine similarity their norms too."""
        model, batches = translation(residual="post_ln", layer_sharing="cycle_rev", **SETS)
        results = [analyzed(model.float(), batches, scale) for scale in (1.0, 1e-25)]
        for stacks in zip(*(result["stacks"].values() for result in results), strict=True):
            for layers in zip(*(stack["layers"] for stack in stacks), strict=True):
                for places in zip(*(layer["positions"] for layer in layers), strict=True):
                    assert places[1]["gradient"] == pytest.approx(1e-25 * places[0]["gradient"], rel=1e-3, abs=0)
            for whole, tiny in zip(*(stack["sets"] for stack in stacks), strict=True):
                assert tiny["cosine"] == pytest.approx(whole["cosine"], abs=1e-3)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_diverged_model_has_numbers_or_none(self, value):
        model, batches = translation(residual="b2t", layer_sharing="cycle", **SETS)
        model.encoder.layers[1].fc1.weight.data.fill_(value)
        result = analyzed(model, batches)
        json.dumps(result, allow_nan=False)
        encoder = result["stacks"]["encoder"]["layers"]
        assert result["loss"] is None
        assert encoder[0]["angle"] is not None
        assert encoder[1]["angle"] is encoder[1]["variance"] is encoder[0]["gradient"] is None


SETS = {"encoder_unique_layers": 2, "decoder_unique_layers": 3}


class TestSharing:
    @pytest.mark.parametrize("sets", [SETS, {"encoder_unique_layers": 1, "decoder_unique_layers": 1}], ids=["M", "1"])
    @pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "none"])
    def test_uses_of_a_set(self, strategy, sets):
        """A use's gradient is that of the same layer in an untied model, and all add up to that of the tied one."""
        tied, batches = translation(residual="admin", layer_sharing=strategy, **sets)
        untied, _ = translation(residual="admin")
        untied.load_state_dict(tied.state_dict())
        result = analyzed(tied, batches)
        for model in (tied, untied):
            sum(loss_of(model, batch) for batch in batches).backward()
        for stack, separate in zip(layer_stacks(tied), layer_stacks(untied), strict=True):
            found = result["stacks"][stack.name]
            indices = layer_indices(strategy, len(stack.layers), sets[f"{stack.name}_unique_layers"])
            assert [layer["set"] for layer in found["layers"]] == indices
            uses = [shared_gradient(layer, result["tokens"]) for layer in separate.layer_list()]
            assert [layer["parameter_gradient"] for layer in found["layers"]] == [close(use.norm()) for use in uses]
            assert [one["set"] for one in found["sets"]] == sorted(set(indices))
            for one in found["sets"]:
                layers = [depth for depth, index in enumerate(indices) if index == one["set"]]
                assert one["layers"] == [depth + 1 for depth in layers]
                together = shared_gradient(stack.layer_list()[layers[0]], result["tokens"])
                assert torch.allclose(sum(uses[depth] for depth in layers), together, rtol=1e-9, atol=1e-14)
                assert one["gradient"] == close(together.norm())
                cosines = [
                    torch.dot(uses[a] / uses[a].norm(), uses[b] / uses[b].norm())
                    for a, b in itertools.combinations(layers, 2)
                ]
                assert one["cosine"] == close(sum(cosines) / len(cosines))

    @pytest.mark.parametrize("flags", [{}, {"layer_sharing": "cycle_rev", "encoder_unique_layers": 4}], ids=str)
    def test_a_set_of_one_layer_is_none(self, flags):
        model, batches = translation(**flags, **({"decoder_unique_layers": 6} if flags else {}))
        result = analyzed(model, batches)
        assert [stack["sets"] for stack in result["stacks"].values()] == [[], []]
        assert [layer["set"] for layer in result["stacks"]["decoder"]["layers"]] == [0, 1, 2, 3, 4, 5]


def shared_gradient(layer, tokens):
    parts = [p.grad.flatten() for name, p in layer.named_parameters() if not name.startswith("residual.")]
    return torch.cat(parts) / tokens


def assert_untouched(model):
    for module in model.modules():
        assert "connect" not in vars(module)
        assert not {**module._forward_hooks, **module._forward_pre_hooks, **module._backward_hooks}


class TestObserving:
    @pytest.mark.parametrize(("kind", "scheme"), [*PAIRS[: len(SCHEMES)], ("language model", "b2t")])
    def test_changes_nothing(self, kind, scheme):
        results = []
        for observes in (False, True):
            model, batches = KINDS[kind](residual=scheme)
            observer = Observer(model.float())
            for batch in batches:
                with observer.observing(batch["target"].ne(PADDING)) if observes else nullcontext():
                    loss = loss_of(model, batch)
                    loss.backward()
            assert_untouched(model)
            results.append([loss, *(parameter.grad for parameter in model.parameters())])
        assert all(torch.equal(*pair) for pair in zip(*results, strict=True))

    def test_ends_with_its_context(self):
        model, batches = translation(residual="pre_ln")
        observer = Observer(model)
        with observer.observing(batches[0]["target"].ne(PADDING)):
            loss_of(model, batches[0]).backward()
        before = copy.deepcopy(observer.layers)
        assert before["decoder"][0].tokens == batches[0]["ntokens"]
        loss_of(model, batches[1]).backward()
        assert observer.layers == before

    @pytest.mark.parametrize("part", ["src_tokens", "prev_output_tokens"])
    def test_leaves_nothing_behind_when_the_model_fails(self, part):
        model, batches = translation(residual="post_ln")
        batches[0]["net_input"][part].fill_(1000)
        with pytest.raises(IndexError), Observer(model).observing(batches[0]["target"].ne(PADDING)):
            loss_of(model, batches[0])
        assert_untouched(model)


class TestTable:
    @pytest.mark.parametrize("scheme", ["post_ln", "pre_ln", "mix_ln", "rezero"])
    def test_cells(self, scheme):
        run = observed("translation", scheme)
        rows = summary.table([run.result], "some tokens").rows
        for stack, row in zip(layer_stacks(run.model), rows, strict=True):
            cells = dict(zip(summary.HEADER, row, strict=True))
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

    def test_of_a_diverged_model(self):
        model, batches = translation(residual="post_ln")
        model.encoder.layers[0].fc1.weight.data.fill_(float("nan"))
        cells = dict(zip(summary.HEADER, summary.table([analyzed(model, batches)], "").rows[1], strict=True))
        assert (cells["gradient"], cells["norm passes"], cells["its angle"]) == ("-", "-", "-")


class TestFigures:
    def test_odd_models_side_by_side(self, monkeypatch):
        """Names that are formulas or hidden to matplotlib, NaN, one layer, one stack, and other depths."""
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

    def test_one_layer_is_seen(self, monkeypatch):
        seen = []
        monkeypatch.setattr(style, "files", lambda figure: seen.append(figure) or {})
        figures.draw([analyzed(*translation(encoder_layers=1, decoder_layers=1))])
        lines = [line for figure in seen for axes in figure.axes for line in axes.lines if len(line.get_xdata())]
        assert len(lines) > 2 * len(figures.PANELS)
        assert all(len(line.get_xdata()) > 1 or line.get_marker() not in (None, "None") for line in lines)

    def test_one_that_explodes_does_not_flatten_the_others(self, monkeypatch):
        seen = []
        monkeypatch.setattr(style, "files", lambda figure: seen.append(figure) or {})
        monkeypatch.setattr(figures, "PANELS", (figures.GRADIENT,))
        models = [analyzed(*translation(), scale) for scale in (1.0, 2.0, 1e9)]
        figures.draw(models)
        (legend,) = seen[0].legends
        assert ["beyond" in text.get_text() for text in legend.get_texts()] == [False, False, True]
        highest = max(layer["gradient"] for layer in models[1]["stacks"]["decoder"]["layers"])
        assert highest < seen[0].axes[0].get_ylim()[1] < 100 * highest


ADMIN = ["--residual", "admin", *SHARED]
FRESH = ["--", *MODEL_FLAGS]
LANGUAGE_MODEL = [
    *("--task", "language_modeling", "--arch", "b2t_transformer_lm", "--tokens-per-sample", "16"),
    *("--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32", "--decoder-attention-heads", "4"),
    *("--decoder-layers", "2", "--residual", "pre_ln"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with data, runs, and what is none: ``other`` data, a ``stock`` run, an ``empty`` folder."""
    folder = tmp_path_factory.mktemp("analysis")
    write_corpus(folder)
    data = binarize(folder)
    for name, flags in {"plain": [], "shared": SHARED, "admin": ADMIN, "stock": ["--arch", "transformer_tiny"]}.items():
        train(data, folder / name, *flags, "--max-update", "2")
    shutil.copytree(data, folder / "other")
    for dictionary in (folder / "other").glob("dict.*"):
        with open(dictionary, "a") as file:
            file.write("one-more 1\n")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def analyze(runs, tmp_path, monkeypatch):
    """The command without its figures, which take most of the time; returns its numbers."""
    monkeypatch.setattr(figures, "draw", lambda models: {})

    def run(*argv, data=None):
        output = ["--output", str(tmp_path / "numbers")]
        assert main(["analyze", "--data", str(data or runs / "bin"), *output, *map(str, argv)]) == 0
        return numbers(tmp_path / "numbers")["models"]

    return run


def numbers(folder):
    """The numbers, which have neither NaN nor infinity in them."""
    return json.loads((folder / "analysis.json").read_text(), parse_constant=pytest.fail)


class TestCommand:
    def test_files(self, runs, tmp_path, monkeypatch, capsys):
        """A run, a checkpoint and a fresh model side by side; then one of them, and nothing is left of the others."""
        # drawing takes most of the time
        monkeypatch.setattr(figures, "PANELS", (figures.INSIDE,))
        out = tmp_path / "out"
        checkpoint = runs / "plain/checkpoint_last.pt"
        argv = ["analyze", "--data", str(runs / "bin"), "--output", str(out)]
        assert main([*argv, str(runs / "shared"), str(checkpoint), "--residual", "pre_ln", *FRESH]) == 0
        printed = capsys.readouterr().out
        figure_names = {"analysis", *(panel.name for panel in figures.PANELS)}
        files = {f"{name}.{kind}" for name in figure_names for kind in ("png", "svg")} | {"analysis.json"}
        assert {path.name for path in out.iterdir()} == files | {"shared_sets.png", "shared_sets.svg"}
        for path in out.glob("*.png"):
            assert path.read_bytes().startswith(b"\x89PNG")
        for path in out.glob("*.svg"):
            ElementTree.parse(path)
        found = numbers(out)
        assert (found["data"], found["subset"]) == (str(runs / "bin"), "valid")
        models = {model["name"]: model for model in found["models"]}
        assert list(models) == ["shared", "checkpoint_last.pt", "Pre-LN"]
        assert [model["updates"] for model in models.values()] == [2, 2, 0]
        assert [model["residual"] for model in models.values()] == ["b2t", "b2t", "pre_ln"]
        assert models["shared"]["checkpoint"] == str(runs / "shared/checkpoint_best.pt")
        assert models["checkpoint_last.pt"]["checkpoint"] == str(checkpoint)
        assert len({(model["tokens"], model["sentences"]) for model in models.values()}) == 1
        for name, model in models.items():
            assert f"\n{name} " in printed
            assert f"{model['loss']:.3f}" in printed
        (out / "gradient_norm.png").write_text("a report's")
        monkeypatch.setattr(style, "files", lambda figure: dict.fromkeys(style.KINDS, b""))
        assert main([*argv, str(checkpoint)]) == 0
        assert {path.name for path in out.iterdir()} == files | {"gradient_norm.png"}

    def test_text_needs_no_matplotlib(self, runs, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        argv = ["analyze", "--data", str(runs / "bin"), str(runs / "shared")]
        assert main([*argv, "--text"]) == 0
        assert "\nshared  encoder  4  2 " in capsys.readouterr().out
        assert main(argv) == 1
        assert "pip install 'b2t_fairseq[report]'" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("flag", ["checkpoint_activations", "offload_activations", "compile"])
    def test_how_a_model_was_computed_does_not_matter(self, runs, analyze, tmp_path, flag):
        state = load(runs / "shared/checkpoint_last.pt")
        state["cfg"]["model"][flag] = True
        torch.save(state, tmp_path / "model.pt")
        models = analyze(runs / "shared/checkpoint_last.pt", tmp_path / "model.pt")
        assert models[0]["stacks"] == models[1]["stacks"]

    def test_half_precision_is_that_of_the_weights_alone(self, runs, analyze, tmp_path):
        state = load(runs / "plain/checkpoint_last.pt")
        for name, change in (("half", torch.Tensor.bfloat16), ("whole", lambda tensor: tensor.bfloat16().float())):
            changed = {key: change(tensor) for key, tensor in state["model"].items()}
            torch.save({**state, "model": changed}, tmp_path / f"{name}.pt")
        models = analyze(tmp_path / "half.pt", tmp_path / "whole.pt")
        assert models[0]["stacks"] == models[1]["stacks"]

    def test_older_checkpoints(self, runs, analyze, tmp_path):
        """With all settings in one namespace, as fairseq before 0.10.2 wrote them."""
        state = load(runs / "shared/checkpoint_last.pt")
        parts = [part for part in state["cfg"].values() if isinstance(part, dict)]
        settings = {name: value for part in parts for name, value in part.items() if name != "_name"}
        chosen = {kind: state["cfg"][kind]["_name"] for kind in ("task", "criterion", "optimizer", "lr_scheduler")}
        args = argparse.Namespace(**{**settings, **chosen, "arch": "b2t_transformer_tiny"})
        kept = {name: state[name] for name in ("model", "optimizer_history", "extra_state")}
        torch.save({"args": args, **kept}, tmp_path / "old.pt")
        old, new = analyze(tmp_path / "old.pt", runs / "shared/checkpoint_last.pt")
        assert (old["stacks"], old["loss"]) == (new["stacks"], new["loss"])
        assert old["updates"] == new["updates"] == 2

    def test_diverged_checkpoint(self, runs, analyze, tmp_path, capsys):
        state = load(runs / "plain/checkpoint_last.pt")
        state["model"]["decoder.layers.2.fc1.weight"].fill_(float("nan"))
        (tmp_path / "a\nrun").mkdir()
        torch.save(state, tmp_path / "a\nrun/checkpoint_last.pt")
        (model,) = analyze(tmp_path / "a\nrun")
        assert model["loss"] is None
        assert model["stacks"]["encoder"]["layers"][3]["angle"] > 0
        # the name keeps to its line
        assert "\na\N{REPLACEMENT CHARACTER}run  encoder " in capsys.readouterr().out

    def test_many_checkpoints(self, runs, analyze):
        """The same one each time gives the same numbers each time."""
        models = analyze(*[runs / "plain"] * 2, runs / "shared")
        assert [model["stacks"] == models[0]["stacks"] for model in models] == [True, True, False]

    def test_language_model(self, analyze, tmp_path):
        write_corpus(tmp_path)
        data = binarize_source(tmp_path)
        (model,) = analyze("--tokens", "5", "--", *LANGUAGE_MODEL, data=data)
        assert list(model["stacks"]) == ["decoder"]
        assert [len(layer["positions"]) for layer in model["stacks"]["decoder"]["layers"]] == [5, 5]
        # a block is longer than what was asked for
        assert model["tokens"] == 16

    def test_schemes(self, runs, analyze, monkeypatch, capsys):
        """All that go with the flags, each from the same seed."""
        assert subjects.schemes("all") == list(SCHEMES)
        some = {name: SCHEMES[name] for name in ("post_ln", "mix_ln", "b2t")}
        monkeypatch.setattr(subjects, "SCHEMES", some)
        models = analyze("--residual", "all", *FRESH, "--encoder-layers", "2")
        assert [model["name"] for model in models] == ["Post-LN", "B2T"]
        assert "left out: --encoder-layers 2: --residual mix_ln" in capsys.readouterr().out
        assert analyze("--residual", "b2t", *FRESH, "--encoder-layers", "2")[0] == models[1]
        assert analyze(*FRESH, "--encoder-layers", "2")[0] == models[1]


class TestSentences:
    def test_all_models_read_the_same(self, runs):
        data, read = str(runs / "bin"), []
        found = [subjects.trained(name, runs / name / "checkpoint_last.pt", data) for name in ("plain", "admin")]
        found.append(subjects.fresh(data, [*MODEL_FLAGS, "--decoder-layers", "7"], "post_ln"))
        for subject in found:
            read.append(list(subjects.batches(subject, "train", 300, "cpu")))
        for first, *others in zip(*read, strict=True):
            for other in others:
                assert torch.equal(first["target"], other["target"])
                assert torch.equal(first["net_input"]["src_tokens"], other["net_input"]["src_tokens"])
        tokens = [batch["ntokens"] for batch in read[0]]
        assert sum(tokens[:-1]) < 300 <= sum(tokens)
        assert len(tokens) > 1

    @pytest.mark.parametrize(("asked", "least", "most"), [("1", 1, 8), ("30", 30, 60), ("100000", 89, 89)])
    def test_as_many_tokens_as_asked_for(self, analyze, runs, asked, least, most):
        """At least one batch, which has room for the longest sentence, of 8 tokens, and at most all."""
        (model,) = analyze(runs / "plain", "--tokens", asked)
        assert least <= model["tokens"] <= most

    def test_title_of_models_that_read_others(self, analyze, runs, capsys):
        short = ["--max-source-positions", "5", "--max-target-positions", "5"]
        read = [model["tokens"] for model in analyze(runs / "plain", *FRESH, *short)]
        assert read[1] < read[0]
        assert f"Layers on {read[0]} or {read[1]} target tokens of valid\n" in capsys.readouterr().out


class TestAdmin:
    @pytest.fixture
    def omegas(self, monkeypatch):
        """Those of the models that are measured, each as a vector."""
        seen, measure = [], measuring.analyze

        def keep(subject, batches):
            assert admin_profile.is_profiled(subject.model)
            schemes = [layer.residual for stack in layer_stacks(subject.model) for layer in stack.layer_list()]
            seen.append(torch.cat([scheme.omega.detach().clone() for scheme in schemes]))
            return measure(subject, batches)

        monkeypatch.setattr(measuring, "analyze", keep)
        return seen

    def test_fresh_models_are_profiled(self, runs, analyze, omegas):
        analyze("--residual", "admin", *FRESH)
        data = str(runs / "bin")
        expected = subjects.fresh(data, MODEL_FLAGS, "admin")
        batch = next(iter(subjects.batches(expected, "valid", 4000, "cpu")))
        admin_profile.measure(expected.model.train(), batch["net_input"])
        layers = [layer for stack in layer_stacks(expected.model) for layer in stack.layer_list()]
        assert torch.equal(omegas[0], torch.cat([layer.residual.omega for layer in layers]))
        assert (omegas[0][1:8].diff(dim=0) > 0).all()

    def test_from_their_profile_if_they_have_one(self, analyze, omegas, tmp_path):
        values = [*(1 + number / 8 for number in range(8)), *(1 + number / 4 for number in range(12))]
        numbered = zip([*range(1, 9), *range(1, 13)], values, strict=True)
        (tmp_path / "profile").write_text("".join(f"{number} {value}\n" for number, value in numbered))
        analyze(*FRESH, "--residual", "admin", "--admin-profile", tmp_path / "profile")
        assert omegas[0][:, 0].tolist() == values

    def test_trained_models_keep_theirs(self, runs, analyze, omegas):
        analyze(runs / "admin/checkpoint_last.pt")
        state = load(runs / "admin/checkpoint_last.pt")["model"]
        names = [f"{stack}.layers.{depth}.residual.omega" for stack in ("encoder", "decoder") for depth in range(4)]
        assert torch.equal(omegas[0], torch.cat([state[name] for name in names]))


ERRORS = [
    ("", "give a checkpoint, or the flags of a fresh model"),
    ("RUNS/plain --residual b2t", "--residual b2t is of fresh models"),
    ("RUNS/plain --residual b2t,post -- FRESH", "--residual b2t,post: unknown scheme 'post'; choose some of post_ln, "),
    ("--residual b2t -- FRESH --residual post_ln", "--residual b2t contradicts the one in "),
    ("-- --encoder-layers 3", "--encoder-layers 3: --arch is missing"),
    ("RUNS/plain --data RUNS/nowhere", "--data RUNS/nowhere: no such folder"),
    ("RUNS/plain --data RUNS/empty", "--data RUNS/empty has no data of two languages, such as valid.en-de.en.bin"),
    ("--data RUNS/empty -- FRESH", "--data RUNS/empty has no data of two languages"),
    ("RUNS/plain --subset dev", "--subset dev: Dataset not found: dev (RUNS/bin); give a part"),
    ("RUNS/plain --tokens 0", "--tokens 0: give a positive number"),
    ("RUNS/plain --tokens -3", "--tokens -3: give a positive number"),
    ("RUNS/plain --data RUNS/other", "plain/checkpoint_best.pt has another vocabulary than --data RUNS/other"),
    (
        "RUNS/stock",
        "stock/checkpoint_best.pt is a TransformerModel, not a model of this plugin; --arch b2t_transformer",
    ),
    ("-- FRESH --arch transformer_tiny", "--arch transformer_tiny is a TransformerModel, not a model of this plugin"),
    ("-- FRESH --encoder-unique-layers 2", "--encoder-unique-layers: 2 unique layers without a strategy"),
    ("--residual all -- FRESH --encoder-unique-layers 2", "--encoder-unique-layers: 2 unique layers without"),
    ("--residual mix_ln -- FRESH --encoder-layers 2", "--encoder-layers 2: --residual mix_ln differs"),
    ("-- FRESH --max-source-positions 1", "--subset valid has no sentence that B2T can read, of (1, 1024) tokens"),
    ("RUNS/plain RUNS/empty", "RUNS/empty has none of evaluation/averaged.pt, "),
    ("RUNS/plain RUNS/nowhere", "RUNS/nowhere: there is neither such a run nor such a checkpoint"),
    ("RUNS/train.en", "RUNS/train.en is not a whole checkpoint"),
    ("RUNS/plain --output RUNS/train.en", "--output RUNS/train.en is a file; give a folder"),
    ("RUNS/plain --output RUNS/no/such", "--output RUNS/no/such: there is no folder RUNS/no"),
    ("--residual admin -- FRESH --admin-profile RUNS/train.en", "--admin-profile RUNS/train.en is not a profile"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[line or "nothing" for line, _ in ERRORS])
def test_errors(runs, tmp_path, monkeypatch, capsys, line, message):
    """Told before anything is measured, and nothing is written."""
    monkeypatch.setattr(measuring, "analyze", lambda *_: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    words = [MODEL_FLAGS if word == "FRESH" else [word.replace("RUNS", str(runs))] for word in line.split()]
    flags = [flag for group in words for flag in group]
    # of two the last counts
    assert main(["analyze", "--data", str(runs / "bin"), *flags]) == 1
    captured = capsys.readouterr()
    assert message.replace("RUNS", str(runs)) in captured.err
    assert captured.err.startswith("b2t analyze: error: ")
    assert not list(tmp_path.iterdir())
