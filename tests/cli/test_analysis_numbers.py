"""The numbers of ``b2t analyze`` are those of plain computations with hooks."""

import itertools
import json
import math
import statistics

import pytest
import torch
from analysis import KINDS, PADDING, PAIRS, SETS, analyzed, loss_of, norms, observed, root_mean_square, translation
from helpers import make_batch, make_model

from b2t_fairseq.layer_stack import layer_stacks
from b2t_fairseq.sharing import OF_THE_PAPER, layer_indices

NORM_AFTER = ("post_ln", "b2t", "span_norm", "admin", "deepnorm", "branch_norm", "keel", "resi_dual")
NORM_BEFORE = ("pre_ln", "dlcl", "ln_scaling", "sandwich_ln", "peri_ln", "sub_ln")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_kind_and_scheme = pytest.mark.parametrize(("kind", "scheme"), [*PAIRS, ("speech", "b2t")])


def layers_of(run):
    """Yield each layer with its stack and with what is measured of it."""
    assert list(run.result["stacks"]) == [stack.name for stack in layer_stacks(run.model)]
    for stack in layer_stacks(run.model):
        numbers = run.result["stacks"][stack.name]["layers"]
        assert [layer["layer"] for layer in numbers] == list(range(1, len(stack.layer_list()) + 1))
        for layer, measured in zip(stack.layer_list(), numbers, strict=True):
            yield stack, layer, measured


def close(value):
    """Allow for the rounding of float64 when sums have another order."""
    return pytest.approx(float(value), rel=1e-9, abs=1e-14)


class TestNumbers:
    @each_kind_and_scheme
    def test_gradients_at_the_ends_of_layers(self, kind, scheme):
        run = observed(kind, scheme)
        for _, layer, measured in layers_of(run):
            _, _, at_input, at_output = run.seen[layer]
            assert measured["positions"][0]["gradient"] == close(root_mean_square(at_input))
            assert measured["positions"][-1]["gradient"] == measured["gradient"] == close(root_mean_square(at_output))

    @each_kind_and_scheme
    def test_gradients_on_the_way_through_a_layer(self, kind, scheme):
        """They are measured at the layer's input and output and before and after each norm, each tensor once."""
        run = observed(kind, scheme)
        for stack, layer, measured in layers_of(run):
            names = ["self-attention", "feed-forward"]
            if kind != "language model" and stack.name == "decoder":
                names.insert(1, "cross-attention")
            _, _, at_input, at_output = run.seen[layer]
            inside = [
                (where, name, gradient)
                for name, norm in zip(names, norms(layer), strict=False)
                for where, gradient in zip(("before norm", "after norm"), run.seen[norm][2:], strict=True)
            ]
            post = scheme in NORM_AFTER or (scheme == "mix_ln" and measured["layer"] <= len(stack.layer_list()) // 4)
            if post:
                expected = [("input", names[0], at_input), *inside]
                if scheme == "resi_dual":
                    # Behind the last norm there is still the second stream.
                    expected.append(("output", names[-1], at_output))
            elif scheme in (*NORM_BEFORE, "mix_ln"):
                expected = [("input", names[0], at_input), *inside[1:], ("output", names[-1], at_output)]
            else:
                assert not inside
                labels = [(place["where"], place["sublayer"]) for place in measured["positions"]]
                assert labels == [*(("input", name) for name in names), ("output", names[-1])]
                continue
            assert len(measured["positions"]) == len(expected) == 2 * len(names) + 1 + (scheme == "resi_dual")
            for place, (where, name, gradient) in zip(measured["positions"], expected, strict=True):
                assert (place["where"], place["sublayer"]) == (where, name)
                assert place["gradient"] == close(root_mean_square(gradient))

    @each_kind_and_scheme
    def test_how_much_a_layer_changes_its_input(self, kind, scheme):
        """This is the angle, the relative distance, and the variances before and after the layer."""
        run = observed(kind, scheme)
        for _, layer, measured in layers_of(run):
            angles, changes, variances = [], [], []
            for x, y in zip(*run.seen[layer][:2], strict=True):
                cosine = float(x @ y / (x @ x).sqrt() / (y @ y).sqrt())
                angles.append(math.degrees(math.acos(max(-1.0, min(1.0, cosine)))))
                changes.append(math.dist(x.tolist(), y.tolist()) / math.hypot(*x.tolist()))
                variances.append([statistics.pvariance(vector.tolist()) for vector in (x, y)])
            # The arc cosine loses half of the digits at small angles.
            assert measured["angle"] == pytest.approx(statistics.fmean(angles), abs=1e-5)
            assert measured["change"] == close(statistics.fmean(changes))
            for name, values in zip(("input_variance", "variance"), zip(*variances, strict=True), strict=True):
                assert measured[name] == close(statistics.fmean(values))

    @each_kind
    def test_the_loss_is_the_mean_over_target_tokens_in_bits(self, kind):
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
            # Two zero gradients have no angle.
            assert [(one["gradient"], one["cosine"]) for one in stack["sets"]] == [(0, None)] * 3
        decoder = result["stacks"]["decoder"]["layers"]
        assert decoder[0]["positions"][0]["gradient"] == pytest.approx(decoder[-1]["gradient"], rel=1e-6)

    def test_small_angles_are_exact(self):
        """They are proportional to the weight of the sub-layers, even where the cosine is 1 to rounding."""
        angles = []
        for alpha in (1e-5, 1e-10):
            model, batches = translation(residual="rezero")
            for stack in layer_stacks(model):
                for layer in stack.layer_list():
                    layer.residual.alpha.data.fill_(alpha)
            angles.append(analyzed(model, batches)["stacks"]["encoder"]["layers"][0]["angle"])
        assert angles[1] > 0
        assert angles[0] / angles[1] == pytest.approx(1e5, rel=1e-3)

    def test_vanishing_gradients_are_exact(self):
        """In float32 their squares are zero, and torch's cosine similarity takes their norms for zero too."""
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
        """JSON has no NaN; what can be measured still is."""
        model, batches = translation(residual="b2t", layer_sharing="cycle", **SETS)
        model.encoder.layers[1].fc1.weight.data.fill_(value)
        result = analyzed(model, batches)
        json.dumps(result, allow_nan=False)
        encoder = result["stacks"]["encoder"]["layers"]
        assert result["loss"] is None
        assert encoder[0]["angle"] is not None
        assert encoder[1]["angle"] is encoder[1]["variance"] is encoder[0]["gradient"] is None


def shared_gradient(layer, tokens):
    """Return the gradient for the parameters that layers can share, as one vector, for each token."""
    parts = [p.grad.flatten() for name, p in layer.named_parameters() if not name.startswith("residual.")]
    return torch.cat(parts) / tokens


class TestSharing:
    @pytest.mark.parametrize("sets", [SETS, {"encoder_unique_layers": 1, "decoder_unique_layers": 1}], ids=["M", "1"])
    @pytest.mark.parametrize("strategy", OF_THE_PAPER)
    def test_gradients_of_the_uses_of_a_parameter_set(self, strategy, sets):
        """A use has the gradient of the same layer in an untied model; all uses add up to that of the tied model."""
        tied, batches = translation(residual="admin", layer_sharing=strategy, **sets)
        untied, _ = translation(residual="admin")
        untied.load_state_dict(dict(tied.state_dict()))  # without the record of the sharing
        result = analyzed(tied, batches)
        for model in (tied, untied):
            sum(loss_of(model, batch) for batch in batches).backward()
        for stack, separate in zip(layer_stacks(tied), layer_stacks(untied), strict=True):
            measured = result["stacks"][stack.name]
            indices = layer_indices(strategy, len(stack.layers), sets[f"{stack.name}_unique_layers"])
            assert [layer["set"] for layer in measured["layers"]] == indices
            uses = [shared_gradient(layer, result["tokens"]) for layer in separate.layer_list()]
            assert [layer["parameter_gradient"] for layer in measured["layers"]] == [close(use.norm()) for use in uses]
            assert [one["set"] for one in measured["sets"]] == sorted(set(indices))
            for one in measured["sets"]:
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
    def test_a_set_of_one_layer_is_not_listed(self, flags):
        model, batches = translation(**flags, **({"decoder_unique_layers": 6} if flags else {}))
        result = analyzed(model, batches)
        assert [stack["sets"] for stack in result["stacks"].values()] == [[], []]
        assert [layer["set"] for layer in result["stacks"]["decoder"]["layers"]] == [0, 1, 2, 3, 4, 5]
