"""Language models: the equations without an encoder, fairseq's own transformer_lm bit by bit, runs and commands."""

import argparse
import math
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from checks import (
    PAIRS,
    assert_same_results,
    assert_xavier,
    check_training_and_decoding,
    deviation,
    randomized_pair,
)
from equations import LAYERS, run_stack
from fairseq import checkpoint_utils
from fairseq.models.transformer_lm import (
    TransformerLanguageModel,
    TransformerLanguageModelConfig,
    base_lm_architecture,
)
from fairseq.sequence_generator import SequenceGenerator
from fairseq_cli import eval_lm
from flags import parse, stock_flags
from helpers import SMALL_LM, make_lm, make_lm_batch, make_task, randomize
from training import PLUGIN, TRAIN_FLAGS, assert_same_model, binarize_source, load, train, write_corpus

from b2t_cli.average import main as b2t_average
from b2t_cli.convert import main as b2t_convert
from b2t_cli.train import main as b2t_train
from b2t_common.errors import InputError
from b2t_fairseq import admin_profile
from b2t_fairseq.models.transformer_lm import B2TLanguageModel
from b2t_fairseq.settings.fields import B2TLanguageModelConfig
from docs.build import summarize_lm

ADAPTIVE = {
    "adaptive_input": True,
    "adaptive_input_cutoff": "8,16",
    "adaptive_softmax_cutoff": "8,16",
    "tie_adaptive_weights": True,
    "share_decoder_input_output_embed": False,
}
TIED_PROJECTIONS = {**ADAPTIVE, "tie_adaptive_proj": True, "adaptive_softmax_dropout": 0.1}


CHARACTERS = {"character_embeddings": True, "share_decoder_input_output_embed": False}
WIDE = {"decoder_embed_dim": 256, "decoder_ffn_embed_dim": 512, "decoder_layers": 4}


def sharing(strategy, sets=2):
    return {"layer_sharing": strategy, "decoder_unique_layers": sets} if strategy != "none" else {}


class TestModel:
    @pytest.mark.parametrize(("scheme", "strategy"), PAIRS)
    def test_equals_its_equations(self, scheme, strategy):
        """Every layer of every sentence, in float64, from the embedding to the logits.

        The parameters come as from the B2T release: under names that lack the tied output layer.
        """
        flags = {"residual": scheme, "decoder_layers": LAYERS["decoder"], **sharing(strategy)}
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

    @pytest.mark.parametrize(("scheme", "strategy"), PAIRS)
    def test_trains_saves_loads_decodes(self, tmp_path, scheme, strategy):
        flags = {"residual": scheme, **sharing(strategy, 3)}
        check_training_and_decoding(lambda seed: make_lm(seed=seed, **flags), make_lm_batch(), tmp_path)

    @pytest.mark.parametrize(("scheme", "strategy"), [("b2t", "none"), ("admin", "cycle_rev"), ("dlcl", "sequence")])
    def test_generation_scores_equal_a_full_forward(self, scheme, strategy):
        """Beam search from forced first words."""
        model = make_lm(residual=scheme, seed=3, **sharing(strategy, 3)).eval()
        batch, dictionary = make_lm_batch(), model.decoder.dictionary
        generator = SequenceGenerator([model], dictionary, beam_size=4, max_len_a=0, max_len_b=12)
        prefix = batch["net_input"]["src_tokens"][:, 1:4]
        for sentence, hypotheses in enumerate(generator.generate([model], batch, prefix_tokens=prefix)):
            for hypothesis in hypotheses:
                target = hypothesis["tokens"].unsqueeze(0)
                known = prefix[sentence][prefix[sentence] != 1]
                assert target[0, : len(known)].equal(known)
                tokens = torch.cat([torch.tensor([[2]]), target[:, :-1]], dim=1)
                with torch.no_grad():
                    log_probs = torch.log_softmax(model(tokens)[0], dim=-1)
                expected = log_probs.gather(-1, target.unsqueeze(-1)).squeeze()
                assert torch.allclose(hypothesis["positional_scores"], expected, rtol=1e-6, atol=1e-5)

    def test_word_dropout_drops_embeddings(self):
        """All of them but the first, or none: the model then sees positions only."""
        model = randomize(make_lm(decoder_word_dropout=0.5))
        tokens = make_lm_batch()["net_input"]["src_tokens"]
        model.decoder.word_dropout.draw_keep_mask = lambda embeddings: torch.eye(8)[:1].expand(3, 8)
        dropped = model.train().decoder.forward_embedding(tokens)
        positions = model.decoder.embed_positions(tokens)
        assert torch.equal(dropped[:, 1:], positions[:, 1:])
        assert not torch.equal(dropped[:, 0], positions[:, 0])

    def test_pruned_layers_are_loaded(self):
        whole = randomize(make_lm(residual="ln_scaling", **sharing("cycle", 3)))
        pruned = make_lm(residual="ln_scaling", **sharing("cycle", 3), decoder_layers_to_keep="0,4,5")
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
    """fairseq's own language model and ours, from the same seed, with every parameter random."""
    defaults = {stock.name: stock.default for stock in fields(TransformerLanguageModelConfig)}
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim", "max_target_positions", "_name"):
        del defaults[name]
    args = argparse.Namespace(**{**defaults, "tokens_per_sample": 64, **SMALL_LM, **flags})
    base_lm_architecture(args)
    args.decoder_normalize_before = scheme == "pre_ln"
    torch.manual_seed(1)
    stock = TransformerLanguageModel.build_model(args, make_task())
    return randomized_pair(stock, make_lm(residual=scheme, kernels="fairseq", tokens_per_sample=64, **flags))


class TestStock:
    @pytest.mark.parametrize("flags", STOCK_FLAGS, ids=lambda flags: " ".join(flags) or "default")
    @pytest.mark.parametrize("scheme", ["post_ln", "pre_ln"])
    def test_equals_fairseq(self, scheme, flags):
        stock, ours = pair_of_models(scheme, **flags)
        assert ours.max_positions() == stock.max_positions() == 64
        assert_same_results(stock, ours, make_lm_batch(), "checkpoint_activations" not in flags)

    def test_equals_fairseq_without_a_final_norm(self):
        stock, ours = pair_of_models("pre_ln", no_decoder_final_norm=True)
        assert ours.decoder.layer_norm is None
        assert_same_results(stock, ours, make_lm_batch())

    @pytest.mark.parametrize("flags", [ADAPTIVE, TIED_PROJECTIONS], ids=["own", "tied"])
    def test_gradients_through_a_tied_softmax(self, flags):
        """The input's bands get gradients from the output too."""
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
    def test_stock_parameters_load(self, scheme):
        stock, _ = pair_of_models(scheme)
        ours = make_lm(residual=scheme, kernels="fairseq", seed=2, tokens_per_sample=64)
        ours.load_state_dict(stock.state_dict())
        tokens = make_lm_batch()["net_input"]["src_tokens"]
        assert torch.equal(ours.eval()(tokens)[0], stock.eval()(tokens)[0])

    def test_every_stock_flag_is_a_flag_here(self):
        ours, stock = stock_flags("b2t_transformer_lm"), stock_flags("transformer_lm")
        assert stock <= ours
        added = {flag for flag in stock_flags("b2t_transformer") - stock_flags("transformer") if "encoder" not in flag}
        assert ours - stock == added

    def test_every_stock_setting_has_its_default(self):
        ours = {own.name: own.default for own in fields(B2TLanguageModelConfig)}
        for stock in fields(TransformerLanguageModelConfig):
            followed = stock.name in ("decoder_input_dim", "decoder_output_dim")
            assert ours[stock.name] == (None if followed else stock.default), stock.name


class TestInitialization:
    def test_deepnorm(self):
        """Decoder-only: alpha = (2M)^(1/4), beta = (8M)^(-1/4)."""
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

    def test_t_fixup_layers(self):
        model = make_lm(residual="t_fixup", **WIDE)
        # of two sub-layers, as an encoder's
        assert_xavier(model.decoder, 0.67 * 4 ** (-1 / 4), uniform=True)
        table = model.decoder.embed_tokens.weight
        assert deviation(table[2:]) == pytest.approx(256**-0.5 * (9 * 4) ** (-1 / 4), rel=0.05)

    def test_depth_scaling(self):
        plain, scaled = (make_lm(depth_scaled_init=on, **sharing("cycle", 3)) for on in (False, True))
        assert torch.allclose(scaled.decoder.layers[5].fc1.weight, plain.decoder.layers[5].fc1.weight * 6**-0.5)
        assert torch.equal(scaled.decoder.embed_tokens.weight, plain.decoder.embed_tokens.weight)

    def test_admin_is_profiled(self, tmp_path):
        """Two sub-layers a layer; what is written is read."""
        first, second = (make_lm(residual="admin", **sharing("cycle_rev", 3)) for _ in range(2))
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


REFUSED = [
    ({**sharing("cycle", 4)}, ["--decoder-unique-layers", "4 unique layers do not divide 6"]),
    ({"decoder_normalize_before": True}, ["--decoder-normalize-before", "--residual b2t"]),
    ({"no_decoder_final_norm": True}, ["--no-decoder-final-norm", "--residual b2t"]),
    ({"decoder_attention_heads": 3}, ["--decoder-embed-dim 16", "--decoder-attention-heads 3"]),
    ({"decoder_word_dropout": 1.0}, ["--decoder-word-dropout 1.0"]),
    ({"base_layers": 1}, ["--base-layers 1"]),
    ({"scale_attn": True}, ["--scale-attn is not supported", "NormFormer"]),
    ({"adaptive_input_cutoff": "8,16"}, ["--adaptive-input-cutoff 8,16", "--adaptive-input"]),
    ({"tie_adaptive_weights": True}, ["--tie-adaptive-weights has no effect without --adaptive-input"]),
    ({"tie_adaptive_proj": True}, ["--tie-adaptive-proj has no effect without --tie-adaptive-weights"]),
    ({"adaptive_softmax_dropout": 0.1}, ["--adaptive-softmax-dropout 0.1", "--adaptive-softmax-cutoff"]),
    ({"character_embedding_dim": 8}, ["--character-embedding-dim 8", "--character-embeddings"]),
    ({"adaptive_softmax_cutoff": "8"}, ["--share-decoder-input-output-embed", "--adaptive-softmax-cutoff 8"]),
    ({**ADAPTIVE, "share_decoder_input_output_embed": True, "adaptive_softmax_cutoff": None}, ["--adaptive-input"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": None}, ["--adaptive-input needs --adaptive-input-cutoff"]),
    ({**ADAPTIVE, "adaptive_softmax_cutoff": None}, ["--tie-adaptive-weights", "--adaptive-softmax-cutoff"]),
    ({**ADAPTIVE, "adaptive_softmax_cutoff": "8"}, ["--adaptive-softmax-cutoff 8 and --adaptive-input-cutoff 8,16"]),
    ({**ADAPTIVE, "adaptive_softmax_factor": 2}, ["--adaptive-softmax-factor 2 and --adaptive-input-factor 4"]),
    ({**ADAPTIVE, "decoder_input_dim": 32}, ["--decoder-output-dim 16 and --decoder-input-dim 32"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "16,8"}, ["--adaptive-input-cutoff 16,8", "ascending"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "8,23"}, ["--adaptive-input-cutoff 8,23", "24 symbols"]),
    ({"adaptive_softmax_cutoff": ",", "share_decoder_input_output_embed": False}, ["--adaptive-softmax-cutoff ,"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "8,99"}, ["--adaptive-input-cutoff 8,99", "24 symbols"]),
    ({**ADAPTIVE, "adaptive_input_cutoff": "__import__('os').abort()"}, ["--adaptive-input-cutoff __import__", "code"]),
    ({**ADAPTIVE, "adaptive_input_factor": 64}, ["--adaptive-input-factor 64", "--decoder-input-dim 16"]),
    ({"decoder_input_dim": 8}, ["--decoder-output-dim 16", "--decoder-input-dim 8"]),
    ({"character_embeddings": True}, ["--share-decoder-input-output-embed", "--character-embeddings"]),
    ({**CHARACTERS, "adaptive_input": True}, ["--adaptive-input has no effect with --character-embeddings"]),
    ({**CHARACTERS, "character_filters": "__import__('os').abort()"}, ["--character-filters __import__", "code"]),
    ({**CHARACTERS, "character_filters": "[1, 2]"}, ["--character-filters [1, 2]", "pairs"]),
    ({**CHARACTERS, "residual": "t_fixup"}, ["--character-embeddings", "--residual t_fixup"]),
    ({"residual": "dlcl", "decoder_layerdrop": 0.1}, ["--decoder-layerdrop 0.1", "--residual dlcl"]),
    ({"decoder_layers_to_keep": "0,6"}, ["--decoder-layers-to-keep 0,6", "0 and 5"]),
]


@pytest.mark.parametrize(("flags", "quoted"), REFUSED, ids=lambda value: " ".join(value) if type(value) is dict else "")
def test_contradictions_are_refused(flags, quoted):
    with pytest.raises(InputError) as error:
        make_lm(**flags)
    assert all(words in str(error.value) for words in quoted), error.value


def test_architectures():
    """The scheme says where the norms are, whatever fairseq's architectures say."""
    for arch, sizes in {
        "b2t_transformer_lm": (6, 512, 2048, 8),
        "b2t_transformer_lm_small": (4, 256, 1024, 4),
        "b2t_transformer_lm_wiki103": (16, 1024, 4096, 8),
    }.items():
        cfg = parse("--task", "language_modeling", "--arch", arch)
        names = ("decoder_layers", "decoder_embed_dim", "decoder_ffn_embed_dim", "decoder_attention_heads")
        assert tuple(cfg[name] for name in names) == sizes
        assert (cfg.residual, cfg.layer_sharing) == ("b2t", "none")
        assert not cfg.decoder_normalize_before
        assert not cfg.no_decoder_final_norm
        assert cfg.adaptive_input == arch.endswith("wiki103")
    cfg = parse("--task", "language_modeling", "--arch", "b2t_transformer_lm_small", "--decoder-layers", "3")
    assert cfg.decoder_layers == 3


RUN_FLAGS = [
    *("--user-dir", PLUGIN, "--task", "language_modeling", "--sample-break-mode", "eos"),
    *("--arch", "b2t_transformer_lm_small", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "32"),
]
ADAPTIVE_FLAGS = [
    *("--arch", "b2t_transformer_lm_wiki103", "--decoder-layers", "4"),
    *("--adaptive-input-cutoff", "6,12", "--adaptive-softmax-cutoff", "6,12"),
    *("--ddp-backend", "legacy_ddp", "--criterion", "adaptive_loss"),
]
SHARED = ["--layer-sharing", "cycle_rev", "--decoder-unique-layers", "2"]
SMOOTHED = TRAIN_FLAGS.index("--criterion")
ADAPTIVE_BASIS = RUN_FLAGS + TRAIN_FLAGS[:SMOOTHED] + TRAIN_FLAGS[SMOOTHED + 4 :]
BASIS = RUN_FLAGS + TRAIN_FLAGS


class TestRuns:
    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("lm")
        write_corpus(folder)
        return binarize_source(folder)

    @pytest.fixture(scope="class")
    def run(self, data, tmp_path_factory):
        """A run of six updates with a checkpoint after each of the last two."""
        folder = tmp_path_factory.mktemp("run")
        flags = ("--max-update", "6", "--save-interval-updates", "3")
        train(data, folder, *SHARED, *flags, command=b2t_train, basis=BASIS)
        return folder

    def perplexity(self, data, path, caplog, *flags):
        """Return what fairseq-eval-lm prints."""
        caplog.clear()
        argv = [data, "--user-dir", PLUGIN, "--path", str(path), "--cpu", "--sample-break-mode", "eos", *flags]
        with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
            patch.setattr(sys, "argv", ["fairseq-eval-lm", *argv])
            eval_lm.cli_main()
        return float(caplog.messages[-1].split("Perplexity: ")[1])

    def test_perplexity_is_that_of_a_full_forward(self, data, run, caplog):
        models, _, task = checkpoint_utils.load_model_ensemble_and_task([str(run / "checkpoint_last.pt")])
        assert type(models[0]).__name__ == "B2TLanguageModel"
        assert models[0].decoder.indices == [0, 1, 1, 0]
        task.load_dataset("test")
        dataset, total, count = task.dataset("test"), 0.0, 0
        for index in range(len(dataset)):
            item = dataset[index]
            with torch.no_grad():
                log_probs = torch.log_softmax(models[0].eval()(item["source"].unsqueeze(0))[0][0], dim=-1)
            total -= log_probs.gather(-1, item["target"].unsqueeze(-1)).sum().item()
            count += len(item["target"])
        assert len(dataset) == 21
        expected = math.exp(total / count)
        path = run / "checkpoint_last.pt"
        assert self.perplexity(data, path, caplog) == pytest.approx(expected, abs=0.006)

    def test_resumed_run_equals_uninterrupted_run(self, data, run, tmp_path):
        train(data, tmp_path, *SHARED, "--max-update", "4", basis=BASIS)
        resumed = train(data, tmp_path, *SHARED, "--max-update", "6", basis=BASIS, command=b2t_train)
        assert_same_model(load(run / "checkpoint_last.pt"), resumed)

    def test_average(self, data, run, tmp_path, caplog, capsys):
        b2t_average([str(run), "--by", "updates", "--last", "2", "--output", str(tmp_path / "averaged.pt")])
        averaged = load(tmp_path / "averaged.pt")["model"]
        name = "decoder.layers.2.fc1.weight"
        parts = [load(file)["model"][name] for file in sorted(run.glob("checkpoint_*_*.pt"))]
        assert len(parts) == 2
        assert torch.allclose(averaged[name], sum(parts) / 2)
        assert averaged[name].data_ptr() == averaged["decoder.layers.1.fc1.weight"].data_ptr()
        assert self.perplexity(data, tmp_path / "averaged.pt", caplog) < 20

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            ([*SHARED, "--residual", "post_ln"], ["residual B2T there, Post-LN here"]),
            ([*SHARED, "--add-bos-token"], ["add_bos_token False there, True here"]),
            ([], ["decoder_unique_layers 2 there, None here", "layer_sharing cycle_rev there, none here"]),
        ],
        ids=["scheme", "task", "sharing"],
    )
    def test_folder_of_another_run_is_refused(self, data, run, flags, words):
        with pytest.raises(InputError) as error:
            train(data, run, *flags, "--max-update", "7", basis=BASIS, command=b2t_train)
        assert all(word in str(error.value) for word in words), error.value

    @pytest.mark.parametrize("scheme", ["b2t", "pre_ln"])
    def test_adaptive(self, data, tmp_path, caplog, scheme):
        """Tied adaptive inputs and softmax, with shared layers, by fairseq-train itself."""
        flags = [*ADAPTIVE_FLAGS, *SHARED, "--residual", scheme, "--dropout", "0", "--max-update", "12"]
        sizes = ["--decoder-attention-heads", "4", "--decoder-input-dim", "16", "--decoder-output-dim", "16"]
        state = train(data, tmp_path, *flags, *sizes, basis=ADAPTIVE_BASIS)
        assert ("decoder.layer_norm.weight" in state["model"]) == (scheme == "pre_ln")
        # of 17 symbols
        assert self.perplexity(data, tmp_path / "checkpoint_last.pt", caplog) < 16

    @pytest.mark.parametrize(
        ("scheme", "flags"), [("post_ln", []), ("pre_ln", ["--decoder-normalize-before"])], ids=["post_ln", "pre_ln"]
    )
    def test_stock_checkpoint_goes_on(self, data, tmp_path, scheme, flags):
        """The same weights as from one run of ours."""
        sizes = ["--decoder-layers", "4", "--decoder-attention-heads", "4", "--share-decoder-input-output-embed"]
        stock = ["--arch", "transformer_lm", "--decoder-input-dim", "16", "--decoder-output-dim", "16"]
        train(data, tmp_path / "stock", *sizes, *stock, *flags, "--max-update", "2", basis=BASIS)
        ours = [*sizes, "--residual", scheme, "--kernels", "fairseq", "--max-update", "4"]
        resumed = train(data, tmp_path / "stock", *ours, basis=BASIS, command=b2t_train)
        assert_same_model(train(data, tmp_path / "ours", *ours, basis=BASIS), resumed)

    def test_admin_profile_of_a_run(self, data, tmp_path):
        flags = ["--residual", "admin", "--admin-profile", str(tmp_path / "profile"), "--max-update", "1"]
        state = train(data, tmp_path / "run", *SHARED, *flags, basis=BASIS, command=b2t_train)
        lines = (tmp_path / "profile").read_text().splitlines()
        assert [int(line.split()[0]) for line in lines] == list(range(1, 9))
        assert state["model"]["decoder.layers.0.residual.profiled"] == 1

    def test_help_is_that_of_the_architecture(self, capsys):
        b2t_train(["--help", "--arch", "b2t_transformer_lm_small"])
        text = capsys.readouterr().out
        assert "--adaptive-input " in text
        assert "--residual" in text
        assert "--encoder-layers" not in text

    @pytest.mark.parametrize("scheme", ["post_ln", "b2t"])
    def test_fused_criterion(self, data, tmp_path, scheme):
        """The criterion without the logits of a whole batch gives the same run."""
        flags = ["--residual", scheme, "--max-update", "3", "--dropout", "0"]
        states = [
            train(data, tmp_path / name, *flags, "--criterion", name, basis=BASIS)
            for name in ("label_smoothed_cross_entropy", "label_smoothed_cross_entropy_fused")
        ]
        assert_same_model(*states, tolerance=1e-5)

    def test_from_pretrained(self, data, run):
        """fairseq's way to a model in Python: it scores a line as a full forward does."""
        hub = B2TLanguageModel.from_pretrained(str(run), "checkpoint_last.pt", data)
        scored = hub.score("w1 w2 w3")
        model, dictionary = hub.models[0], hub.task.source_dictionary
        tokens = dictionary.encode_line("w1 w2 w3", add_if_not_exist=False).long()
        with torch.no_grad():
            log_probs = torch.log_softmax(model(torch.cat([tokens[-1:], tokens[:-1]]).unsqueeze(0))[0][0], dim=-1)
        expected = log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        assert torch.allclose(scored["positional_scores"], expected[: len(scored["positional_scores"])], atol=1e-5)

    def test_summary(self, data, run):
        """docs/build/summarize_lm.py: perplexity per word from that per piece."""
        (run / "data.txt").write_text(data)
        text = Path(data).parent / "test.en"
        score = summarize_lm.evaluate(run, "test", text)
        # a word is a piece here
        assert score.pieces == score.words == len(text.read_text().split()) + 21
        assert score.per_word() == pytest.approx(score.per_piece())
        assert 1 < score.per_word() < 20
        with pytest.raises(ValueError, match="has 21 lines as test, but"):
            summarize_lm.evaluate(run, "test", text.with_name("valid.en"))

    @pytest.mark.parametrize("target", ["stock", "safetensors"])
    def test_convert_refuses(self, run, tmp_path, capsys, target):
        with pytest.raises(InputError, match="of the model b2t_transformer_lm_small; only translation models"):
            b2t_convert([str(run / "checkpoint_last.pt"), str(tmp_path / "converted"), "--to", target])
        assert not list(tmp_path.iterdir())
