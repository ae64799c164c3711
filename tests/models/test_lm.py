"""Language models equal their equations, and fairseq's own transformer_lm bit by bit."""

import argparse
from dataclasses import fields

import pytest
import torch
from checks import (
    PAIRS,
    SOME_PAIRS,
    assert_same_results,
    assert_xavier,
    check_training_and_decoding,
    deviation,
    randomized_pair,
)
from equations import LAYERS, run_stack
from exactly import assert_equal_in_float64, softmaxes_in_float64
from fairseq.models.transformer_lm import (
    TransformerLanguageModel,
    TransformerLanguageModelConfig,
    base_lm_architecture,
)
from fairseq.sequence_generator import SequenceGenerator
from helpers import make_task, randomize
from language_models import ADAPTIVE, SMALL_LM, TIED_PROJECTIONS, decoder_sharing, make_lm, make_lm_batch

from b2t_common.errors import InputError
from b2t_fairseq import admin_profile

WIDE = {"decoder_embed_dim": 256, "decoder_ffn_embed_dim": 512, "decoder_layers": 4}


class TestModel:
    @pytest.mark.parametrize(("scheme", "strategy"), PAIRS)
    def test_equals_its_equations(self, scheme, strategy):
        """The logits of each sentence are those of the equations, from the embedding on, in float64.

        The model loads parameters as the B2T release stores them, without the tied output layer.
        """
        flags = {"residual": scheme, "decoder_layers": LAYERS["decoder"], **decoder_sharing(strategy)}
        state = randomize(make_lm(**flags)).state_dict()
        del state["decoder.output_projection.weight"]
        model = make_lm(**flags, seed=2)
        missing, unexpected = model.load_state_dict(dict(state), strict=False)
        assert (missing, unexpected) == ([], [])
        model.double().eval()
        batch = make_lm_batch()
        table, positions = model.decoder.embed_tokens.weight, model.decoder.embed_positions.weights.double()
        with torch.no_grad():
            logits, _ = model(**batch["net_input"])
            for sentence, tokens in enumerate(batch["net_input"]["src_tokens"]):
                tokens = tokens[tokens != 1]
                x = run_stack(scheme, model.decoder, 4 * table[tokens] + positions[2 : 2 + len(tokens)])
                difference = (x @ table.T - logits[sentence, : len(tokens)]).abs().max()
                assert difference < 1e-9 * logits.abs().max().clamp(min=1)

    @pytest.mark.parametrize(("scheme", "strategy"), SOME_PAIRS)
    def test_every_scheme_trains_saves_loads_and_decodes_with_and_without_sharing(self, tmp_path, scheme, strategy):
        flags = {"residual": scheme, **decoder_sharing(strategy, 3)}
        check_training_and_decoding(lambda seed: make_lm(seed=seed, **flags), make_lm_batch(), tmp_path)

    @pytest.mark.parametrize(("scheme", "strategy"), [("b2t", "none"), ("admin", "cycle_rev"), ("dlcl", "sequence")])
    def test_generation_scores_equal_a_full_forward(self, scheme, strategy):
        """Beam search that begins with given words scores a text as one full forward pass does."""
        model = make_lm(residual=scheme, seed=3, **decoder_sharing(strategy, 3)).double().eval()
        batch, dictionary = make_lm_batch(), model.decoder.dictionary
        generator = SequenceGenerator([model], dictionary, beam_size=4, max_len_a=0, max_len_b=12)
        prefix = batch["net_input"]["src_tokens"][:, 1:4]
        with softmaxes_in_float64(), torch.no_grad():
            for sentence, hypotheses in enumerate(generator.generate([model], batch, prefix_tokens=prefix)):
                for hypothesis in hypotheses:
                    target = hypothesis["tokens"].unsqueeze(0)
                    known = prefix[sentence][prefix[sentence] != 1]
                    assert target[0, : len(known)].equal(known)
                    tokens = torch.cat([torch.tensor([[2]]), target[:, :-1]], dim=1)
                    log_probs = torch.log_softmax(model(tokens)[0], dim=-1)
                    expected = log_probs.gather(-1, target.unsqueeze(-1)).flatten()
                    assert_equal_in_float64(hypothesis["positional_scores"], expected)

    def test_a_dropped_word_keeps_its_position(self):
        """The first word is never dropped."""
        model = randomize(make_lm(decoder_word_dropout=0.5))
        tokens = make_lm_batch()["net_input"]["src_tokens"]
        model.decoder.word_dropout.draw_keep_mask = lambda embeddings: torch.eye(8)[:1].expand(3, 8)
        dropped = model.train().decoder.forward_embedding(tokens)
        positions = model.decoder.embed_positions(tokens)
        assert torch.equal(dropped[:, 1:], positions[:, 1:])
        assert not torch.equal(dropped[:, 0], positions[:, 0])

    def test_a_pruned_model_loads_the_layers_that_it_keeps(self):
        """Layers 0, 4 and 5 of the whole model have their parameters and their positions."""
        whole = randomize(make_lm(residual="ln_scaling", **decoder_sharing("cycle", 3)))
        pruned = make_lm(residual="ln_scaling", **decoder_sharing("cycle", 3), decoder_layers_to_keep="0,4,5")
        cfg = argparse.Namespace(arch="b2t_transformer_lm", decoder_layers_to_keep="0,4,5")
        pruned.load_state_dict(whole.state_dict(), model_cfg=cfg)
        assert cfg.decoder_layers_to_keep == "0,4,5"
        for layer, depth in zip(pruned.decoder.layers, (0, 4, 5), strict=True):
            assert torch.equal(layer.fc1.weight, whole.decoder.layers[depth].fc1.weight)
            assert layer.residual.position == whole.decoder.layers[depth].residual.position


STOCK_FLAGS = [
    {},
    {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "share_decoder_input_output_embed": False},
    {"decoder_learned_pos": True, "layernorm_embedding": True, "no_scale_embedding": True, "activation_fn": "gelu"},
    {"share_decoder_input_output_embed": False, "decoder_output_dim": 8, "decoder_input_dim": 12},
    {"decoder_input_dim": 8, "decoder_output_dim": 8},
    {"max_target_positions": 64, "no_token_positional_embeddings": True, "decoder_layerdrop": 0.3},
    {"quant_noise_pq": 0.1, "quant_noise_pq_block_size": 4, "checkpoint_activations": True},
    ADAPTIVE,
    TIED_PROJECTIONS,
    {**ADAPTIVE, "tie_adaptive_weights": False, "adaptive_input_factor": 2, "adaptive_softmax_factor": 2.0},
    {"adaptive_softmax_cutoff": "8,24", "share_decoder_input_output_embed": False},
    {"character_embeddings": True, "character_filters": "[(1, 8), (2, 8)]", "share_decoder_input_output_embed": False},
]


def pair_of_models(scheme, **flags):
    """Return fairseq's language model and ours, with the same random numbers in every parameter."""
    defaults = {stock.name: stock.default for stock in fields(TransformerLanguageModelConfig)}
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim", "max_target_positions", "_name"):
        del defaults[name]
    args = argparse.Namespace(**{**defaults, "tokens_per_sample": 64, **SMALL_LM, **flags})
    base_lm_architecture(args)
    args.decoder_normalize_before = scheme == "pre_ln"
    torch.manual_seed(1)
    stock = TransformerLanguageModel.build_model(args, make_task())
    return randomized_pair(stock, make_lm(residual=scheme, kernels="fairseq", tokens_per_sample=64, **flags))


class TestFairseqsModel:
    @pytest.mark.parametrize("flags", STOCK_FLAGS, ids=lambda flags: " ".join(flags) or "default")
    @pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
    def test_equals_fairseqs_language_model(self, scheme, flags):
        stock, ours = pair_of_models(scheme, **flags)
        assert ours.max_positions() == stock.max_positions() == 64
        assert_same_results(stock, ours, make_lm_batch(), "checkpoint_activations" not in flags)

    def test_equals_fairseqs_model_without_a_final_norm(self):
        stock, ours = pair_of_models("pre_ln", no_decoder_final_norm=True)
        assert ours.decoder.layer_norm is None
        assert_same_results(stock, ours, make_lm_batch())

    @pytest.mark.parametrize("flags", [ADAPTIVE, TIED_PROJECTIONS], ids=["own", "tied"])
    def test_gradients_through_a_tied_softmax_equal_fairseqs(self, flags):
        """The embeddings get gradients from the input and from the output."""
        gradients = []
        for model in pair_of_models("pre_ln", **flags):
            torch.manual_seed(5)
            batch = make_lm_batch()
            outputs, _ = model.decoder.adaptive_softmax(model(**batch["net_input"])[0], batch["target"])
            sum(output.square().sum() for output in outputs if output is not None).backward()
            gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        assert gradients[0].keys() == gradients[1].keys()
        assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())

    @pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
    def test_parameters_of_fairseqs_model_load(self, scheme):
        stock, _ = pair_of_models(scheme)
        ours = make_lm(residual=scheme, kernels="fairseq", seed=2, tokens_per_sample=64)
        ours.load_state_dict(stock.state_dict())
        tokens = make_lm_batch()["net_input"]["src_tokens"]
        assert torch.equal(ours.eval()(tokens)[0], stock.eval()(tokens)[0])


class TestInitialization:
    def test_deepnorm(self):
        """Without an encoder alpha is (2 M)^(1/4) and beta (8 M)^(-1/4)."""
        model = make_lm(residual="deepnorm", **WIDE)
        assert_xavier(model.decoder, (8 * 4) ** (-1 / 4), uniform=False)
        assert model.decoder.layers[0].residual.alpha == pytest.approx(8**0.25)

    @pytest.mark.parametrize("flags", [ADAPTIVE, TIED_PROJECTIONS], ids=["own", "tied"])
    def test_t_fixup_scales_adaptive_inputs_once(self, flags):
        plain, scaled = (make_lm(residual=scheme, **flags) for scheme in ("rezero", "t_fixup"))
        bands = zip(plain.decoder.embed_tokens.embeddings, scaled.decoder.embed_tokens.embeddings, strict=True)
        for before, after in bands:
            assert torch.allclose(after[0].weight, before[0].weight * 54**-0.25)
            assert torch.equal(after[1].weight, before[1].weight)

    def test_t_fixup_layers_are_scaled_as_an_encoders(self):
        """Both have two sub-layers, so that Xavier's numbers are multiplied by 0.67 M^(-1/4)."""
        model = make_lm(residual="t_fixup", **WIDE)
        assert_xavier(model.decoder, 0.67 * 4 ** (-1 / 4), uniform=True)
        table = model.decoder.embed_tokens.weight
        assert deviation(table[2:]) == pytest.approx(256**-0.5 * (9 * 4) ** (-1 / 4), rel=0.05)

    def test_depth_scaled_initialization_scales_layers_only(self):
        plain, scaled = (make_lm(depth_scaled_init=on, **decoder_sharing("cycle", 3)) for on in (False, True))
        assert torch.allclose(scaled.decoder.layers[5].fc1.weight, plain.decoder.layers[5].fc1.weight * 6**-0.5)
        assert torch.equal(scaled.decoder.embed_tokens.weight, plain.decoder.embed_tokens.weight)

    def test_admins_profile_is_measured_written_and_read(self, tmp_path):
        """A layer has two sub-layers; the profile of another depth is refused."""
        first, second = (make_lm(residual="admin", **decoder_sharing("cycle_rev", 3)) for _ in range(2))
        admin_profile.measure(first, make_lm_batch()["net_input"])
        assert admin_profile.is_profiled(first)
        admin_profile.write(first, tmp_path / "profile")
        numbers = [int(line.split()[0]) for line in (tmp_path / "profile").read_text().splitlines()]
        assert numbers == list(range(1, 13))
        admin_profile.read(second, tmp_path / "profile")
        for layer, other in zip(first.decoder.layers, second.decoder.layers, strict=True):
            assert torch.allclose(layer.residual.omega, other.residual.omega, rtol=1e-6)
        with pytest.raises(InputError, match=r"its 12 lines must be numbered 1 to 8 \(decoder\)"):
            admin_profile.read(make_lm(residual="admin", decoder_layers=4), tmp_path / "profile")
