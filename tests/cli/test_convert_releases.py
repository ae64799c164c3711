"""``b2t convert``: checkpoints of the papers' releases give the releases' numbers."""

import math

import pytest
import torch
from conversion import ADMIN, B2T, SEQUENCE, SHARING, assert_logits, assert_translations, convert, loaded
from golden import Golden, release_loss
from releases import REAL, batches, decode, expected, load_model, raw_state, release_checkpoint, sentence_pairs

from b2t_cli.runs.averaging import average
from b2t_fairseq import checkpoints

pytestmark = pytest.mark.usefixtures("settings_translated_once")


class TestRecordedModels:
    """Release-format checkpoints of every recorded configuration."""

    @pytest.mark.parametrize(
        ("name", "scheme"),
        [("postln_3_3", "post_ln"), ("preln_3_3", "pre_ln"), ("b2t_3_3", "b2t"), ("worddrop_b2t_3_3", "b2t")],
    )
    def test_the_b2t_release_keeps_its_function(self, name, scheme, tmp_path, capsys):
        name = f"b2t_connection/{name}"
        golden, model, cfg = loaded(name, convert(release_checkpoint(name), tmp_path, old=False), tmp_path)
        assert cfg.model.residual == scheme
        rates = (0.3, 0.4) if "worddrop" in name else (0.0, 0.0)
        assert (cfg.model.encoder_word_dropout, cfg.model.decoder_word_dropout) == rates
        assert_logits(golden, model, "out/")
        if "generation" in golden.meta:
            assert_translations(golden, model, "generation")
        report = capsys.readouterr().out
        assert f"--residual {scheme} without sharing" in report
        assert "those of the release's formulas within" in report
        assert "for inference and fine-tuning" in report

    @pytest.mark.parametrize("share_type", SHARING)
    def test_the_sharing_release_keeps_its_function(self, share_type, tmp_path, capsys):
        name = f"share_layer_params/{share_type}_n6_k2"
        golden, model, cfg = loaded(name, convert(release_checkpoint(name), tmp_path), tmp_path)
        assert_logits(golden, model, "out/")
        assert_translations(golden, model, "generation")
        assert cfg.model.layer_sharing == "none"
        copies = [d for d, owner in enumerate(golden.meta["layer_map"]["decoder"]["owner_layer"]) if owner != d]
        report = capsys.readouterr().out
        assert (
            f"untied, to keep the function exactly: the decoder layers {', '.join(map(str, copies))} are copies"
            in report
        )

    @pytest.mark.parametrize("share_type", SHARING)
    def test_retied_models_are_the_release_without_its_slip(self, share_type, tmp_path, capsys):
        name = f"share_layer_params/{share_type}_n6_k2"
        golden, model, cfg = loaded(name, convert(release_checkpoint(name), tmp_path, "--retie"), tmp_path)
        assert_logits(golden, model, "fixed/")
        assert_translations(golden, model, "generation_fixed")
        assert cfg.model.layer_sharing == SHARING[share_type]
        assert cfg.model.encoder_unique_layers == cfg.model.decoder_unique_layers == 3
        # Without the slip a copied layer has no bias of its own.
        assert sum(p.numel() for p in model.parameters()) == golden.meta["parameter_count"]
        moved = (golden["out/logits"].log_softmax(-1) - golden["fixed/logits"].log_softmax(-1)).abs().max().item()
        assert moved > 0.01
        report = capsys.readouterr().out
        assert "; largest change of a bias" in report
        assert "--retie changes the model's function" in report

    def test_admin_keeps_its_trained_ratios(self, tmp_path):
        """The profile file of the release has only the first ones; the slip is kept, or undone by --retie."""
        name = ADMIN
        state = raw_state(Golden(name), "randratio/state/")
        assert len(state) == 30
        checkpoint = release_checkpoint(name, state)
        golden, model, cfg = loaded(name, convert(checkpoint, tmp_path), tmp_path)
        assert cfg.model.residual == "admin"
        assert_logits(golden, model, "randratio/")
        golden, model, _ = loaded(name, convert(release_checkpoint(name), tmp_path), tmp_path)
        assert_logits(golden, model, "out/")
        assert_translations(golden, model, "generation")
        golden, model, cfg = loaded(name, convert(release_checkpoint(name), tmp_path, "--retie"), tmp_path)
        assert cfg.model.layer_sharing == "cycle_rev"
        assert_logits(golden, model, "fixed/")
        assert_translations(golden, model, "generation_fixed")


class TestKinds:
    """Checkpoints of the releases that differ from the recorded ones: averaged, in half precision, and others."""

    def test_an_average_of_the_release_is_the_average_of_the_conversions(self, tmp_path):
        """In an average each name has a tensor of its own."""
        files, states = [], []
        for number in (1, 2):
            checkpoint = release_checkpoint(SEQUENCE)
            memo = {}
            for name, tensor in checkpoint["model"].items():
                memo.setdefault(tensor.data_ptr(), tensor * number if ".layers." in name else tensor)
                checkpoint["model"][name] = memo[tensor.data_ptr()]
            states.append(checkpoint["model"])
            files.append(convert(checkpoint, tmp_path, output=f"converted{number}.pt"))
        mean = release_checkpoint(SEQUENCE)
        mean["model"] = {name: (tensor + states[1][name]) / 2 for name, tensor in states[0].items()}
        converted = checkpoints.load(convert(mean, tmp_path, old=False))["model"]
        for name, tensor in average(files)["model"].items():
            assert torch.allclose(converted[name], tensor, atol=1e-6), name

    def test_a_model_in_half_precision_stays_so(self, tmp_path):
        checkpoint = release_checkpoint(SEQUENCE)
        whole = checkpoint["model"]
        checkpoint["model"] = {name: tensor.half() for name, tensor in whole.items()}
        path = convert(checkpoint, tmp_path, "--retie")
        stored = checkpoints.load(path)["model"]
        weight = stored["encoder.layers.1.fc1.weight"]
        assert torch.equal(weight, whole["encoder.layers.0.fc1.weight"].half())
        assert weight.data_ptr() == stored["encoder.layers.0.fc1.weight"].data_ptr()

    def test_a_separate_output_layer_and_separate_dictionaries_are_converted(self, tmp_path):
        """Without shared embeddings the release has the output layer as the parameter decoder.embed_out."""
        name = B2T
        flags = {"share_all_embeddings": False, "share_decoder_input_output_embed": False}
        checkpoint = release_checkpoint(name, **flags)
        table = checkpoint["model"]["decoder.embed_tokens.weight"]
        checkpoint["model"]["decoder.embed_out"] = table.flip(0)
        checkpoint["model"]["encoder.embed_tokens.weight"] = torch.cat([table, table[:3]])
        stored = checkpoints.load(convert(checkpoint, tmp_path))["model"]
        assert torch.equal(stored["decoder.output_projection.weight"], table.flip(0))
        assert stored["encoder.embed_tokens.weight"].size(0) == 27

    def test_learned_positions_and_another_activation_are_converted(self, tmp_path):
        name = B2T
        learned = {"encoder_learned_pos": True, "decoder_learned_pos": True, "activation_fn": "gelu"}
        checkpoint = release_checkpoint(name, **learned, max_source_positions=30, max_target_positions=30)
        for stack, positions in (("encoder", "embed_positions"), ("decoder", "embed_positions_original")):
            del checkpoint["model"][f"{stack}.{positions}._float_tensor"]
            checkpoint["model"][f"{stack}.{positions}.weight"] = torch.randn(32, 16)
        stored = checkpoints.load(convert(checkpoint, tmp_path))["model"]
        assert stored["decoder.embed_positions.weight"].shape == (32, 16)

    @pytest.mark.parametrize("stored", [True, False])
    def test_b2t_without_layer_norm_is_converted(self, stored, tmp_path, capsys):
        """The file may have norms that --no-layer-norm does not use; they are left out."""
        checkpoint = release_checkpoint(B2T, no_layer_norm=True)
        norms = [name for name in checkpoint["model"] if "layer_norm" in name]
        if not stored:
            checkpoint["model"] = {k: v for k, v in checkpoint["model"].items() if k not in norms}
        _, _, cfg = loaded(B2T, convert(checkpoint, tmp_path), tmp_path)
        assert cfg.model.residual == "b2t_no_ln"
        assert (f"left out: {len(norms)} tensors of norms" in capsys.readouterr().out) == stored

    def test_settings_that_are_left_out_are_named(self, tmp_path, capsys):
        extra = {"one_more_trick": 0.5, "another": False, "sampling_method": "uniform", "enc_replace_rate": 0.1}
        checkpoint = release_checkpoint(B2T, optimizer="of_the_fork", **extra)
        convert(checkpoint, tmp_path)
        report = capsys.readouterr().out
        assert (
            "settings not known here and left out: --adam-betas (0.9, 0.999), --adam-eps 1e-08, --one-more-trick 0.5"
            in report
        )
        assert "--another" not in report
        assert "--sampling-method uniform acts in training only" in report

    def test_the_result_is_a_checkpoint_of_fairseq_train(self, tmp_path):
        """It has fairseq's settings and the scheme beside the weights, and no state of optimizer or data."""
        path = convert(release_checkpoint(B2T), tmp_path)
        state = torch.load(path, weights_only=True)
        assert state["args"] is None
        assert state["cfg"]["task"]["_name"] == "translation"
        assert (state["cfg"]["task"]["source_lang"], state["cfg"]["task"]["target_lang"]) == ("en", "de")
        assert state["cfg"]["model"]["_name"] == "b2t_transformer"
        assert state["last_optimizer_state"] is None
        assert state["optimizer_history"][-1]["num_updates"] == 7
        iterator = {"epoch": 1, "iterations_in_epoch": 0, "shuffle": True}
        assert state["extra_state"] == {"train_iterator": iterator, "val_loss": 3.5, "best": 3.5}
        assert state["model"]._metadata["encoder"]["residual"] == "b2t"
        # Label smoothing is spread over V - 1 symbols by fairseq, over V symbols by the release.
        assert state["cfg"]["criterion"]["label_smoothing"] == pytest.approx(0.1 * 23 / 24)


@pytest.mark.skipif(not REAL.exists(), reason="the releases' checkpoints are not beside this project")
@pytest.mark.parametrize(
    ("name", "file"), [("A_b2t", "checkpoint_last"), ("A_b2t", "averaged"), ("C_sequence", "checkpoint_last")]
)
class TestRealCheckpoints:
    """Real checkpoints, which the releases' own programs trained, decoded and validated."""

    @pytest.fixture
    def converted(self, name, file, tmp_path):
        return convert(REAL / name / f"{file}.pt", tmp_path)

    def test_translations_and_scores_are_the_releases(self, name, file, converted):
        model, _, task = load_model(converted, REAL / name)
        dataset = sentence_pairs(REAL / name, "test", task.source_dictionary)
        recorded = expected(name)["decode"][file]
        for key, beam, lenpen in (("beam4_lenpen0.6", 4, 0.6), ("beam1_lenpen1.0", 1, 1.0)):
            decoded = decode(model, dataset, beam, lenpen)
            assert len(decoded) == len(recorded[key]["sentences"]) == 100
            for sentence in recorded[key]["sentences"]:
                ours = decoded[sentence["id"]]
                pieces = [task.target_dictionary.string(hypothesis["tokens"]) for hypothesis in ours]
                assert pieces == [hypothesis["hypothesis"] for hypothesis in sentence["hypotheses"]]
                for hypothesis, other in zip(ours, sentence["hypotheses"], strict=True):
                    assert abs(hypothesis["score"].item() - other["score"]) < 1e-5
        for batch in batches(dataset):
            with torch.no_grad():
                log_probabilities = model(**batch["net_input"])[0].log_softmax(-1)
            chosen = log_probabilities.gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)
            real = batch["target"] != 1
            for row, sentence in enumerate(batch["id"].tolist()):
                score = chosen[row][real[row]].mean().item()
                assert abs(score - recorded["score_reference"]["sentences"][sentence]["score"]) < 1e-5

    def test_the_validation_loss_is_the_releases(self, name, file, converted):
        """The release's formula and fairseq's own criterion with the converted settings both give it."""
        model, cfg, task = load_model(converted, REAL / name)
        recorded = expected(name)["validate"][file]
        criterion = task.build_criterion(cfg.criterion)
        sums = {"release": 0.0, "fairseq": 0.0, "nll": 0.0, "tokens": 0}
        for batch in batches(sentence_pairs(REAL / name, "valid", task.source_dictionary)):
            with torch.no_grad():
                sums["release"] += release_loss(model(**batch["net_input"])[0], batch["target"]).item()
                loss, tokens, logged = criterion(model, batch)
            sums["fairseq"] += loss.item()
            sums["nll"] += logged["nll_loss"].item()
            sums["tokens"] += tokens
        assert sums["tokens"] == recorded["ntokens"]
        bits = {name: sums[name] / sums["tokens"] / math.log(2) for name in ("release", "fairseq", "nll")}
        assert bits["release"] == pytest.approx(recorded["loss_base2_per_token"], abs=1e-5)
        assert bits["fairseq"] == pytest.approx(recorded["loss_base2_per_token"], abs=1e-5)
        assert bits["nll"] == pytest.approx(recorded["nll_base2_per_token"], abs=1e-5)
