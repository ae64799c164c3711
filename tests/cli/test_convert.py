"""``b2t convert``: the releases' checkpoints give the releases' numbers; other programs get this plugin's."""

import json
import math
import re
import resource
import sys
from copy import deepcopy

import pytest
import torch
from attacks import Attack
from fairseq.sequence_generator import SequenceGenerator
from fairseq_cli import generate
from golden import GOLDEN, Golden, release_loss, translate
from helpers import make_batch
from releases import (
    REAL,
    batches,
    decode,
    expected,
    load_model,
    raw_state,
    release_checkpoint,
    save_as_release,
    sentence_pairs,
    write_dictionaries,
)
from training import SHARED, binarize, load, train, write_corpus

from b2t_cli import main as b2t
from b2t_cli.conversion import export, modern
from b2t_cli.conversion.layer_sets import release_indices
from b2t_cli.runs.averaging import average
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints

SHARING = {"sequence": "sequence", "cycle": "cycle", "cycle_reverse": "cycle_rev"}
SEQUENCE = "share_layer_params/sequence_n6_k2"
ADMIN = "share_layer_params/admin_cycle_reverse_n6_k2"
POST, PRE, B2T = (f"b2t_connection/{name}_3_3" for name in ("postln", "preln", "b2t"))
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


@pytest.fixture(scope="module", autouse=True)
def settings_are_translated_once():
    """fairseq takes most of a conversion's time for the same settings again and again."""
    results = {}
    original = modern.convert_namespace_to_omegaconf

    def remembered(args):
        key = repr(sorted(vars(args).items()))
        if key not in results:
            results[key] = original(args)
        return deepcopy(results[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modern, "convert_namespace_to_omegaconf", remembered)
        yield


def convert(checkpoint, folder, *flags, old=True, output="converted.pt"):
    """Convert through the command; return the path of the result."""
    source = checkpoint if not isinstance(checkpoint, dict) else save_as_release(checkpoint, folder / "old.pt", old)
    assert b2t(["convert", str(source), str(folder / output), *flags]) == 0
    return folder / output


def refused(checkpoint, folder, capsys, *flags):
    """Return the message with which a conversion is refused; nothing may have been written."""
    source = checkpoint if not isinstance(checkpoint, dict) else save_as_release(checkpoint, folder / "old.pt")
    before = sorted(folder.iterdir())
    capsys.readouterr()
    assert b2t(["convert", str(source), str(folder / "converted.pt"), *flags]) == 1
    assert sorted(folder.iterdir()) == before
    message = capsys.readouterr().err
    assert message.startswith(f"b2t convert: error: {source}")
    return message


def loaded(name, path, tmp_path):
    golden = Golden(name)
    model, cfg, _ = load_model(path, write_dictionaries(golden.meta["dictionary"][4:], tmp_path))
    return golden, model, cfg


def assert_logits(golden, model, prefix):
    batch = golden.batch()
    with torch.no_grad():
        logits, _ = model(**batch["net_input"])
    real = batch["target"] != golden.meta["pad"]
    assert (logits - golden[f"{prefix}logits"])[real].abs().max() < 1e-5


def assert_translations(golden, model, key):
    for beam, name in ((1, "greedy"), (4, "beam4")):
        hypotheses = translate(model, golden.dictionary, golden.batch(), beam)
        for ours, theirs in zip(hypotheses, golden.meta[key][name], strict=True):
            assert [hypothesis["tokens"].tolist() for hypothesis in ours] == [h["tokens"] for h in theirs]
            for hypothesis, other in zip(ours, theirs, strict=True):
                assert abs(hypothesis["score"].item() - other["score"]) < 1e-5


class TestRecordedModels:
    """Release-format checkpoints of every recorded configuration."""

    @pytest.mark.parametrize(
        ("name", "scheme"),
        [("postln_3_3", "post_ln"), ("preln_3_3", "pre_ln"), ("b2t_3_3", "b2t"), ("worddrop_b2t_3_3", "b2t")],
    )
    def test_b2t_release(self, name, scheme, tmp_path, capsys):
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
    def test_sharing_release_keeps_its_function(self, share_type, tmp_path, capsys):
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
    def test_retied(self, share_type, tmp_path, capsys):
        name = f"share_layer_params/{share_type}_n6_k2"
        golden, model, cfg = loaded(name, convert(release_checkpoint(name), tmp_path, "--retie"), tmp_path)
        assert_logits(golden, model, "fixed/")
        assert_translations(golden, model, "generation_fixed")
        assert cfg.model.layer_sharing == SHARING[share_type]
        assert cfg.model.encoder_unique_layers == cfg.model.decoder_unique_layers == 3
        # one bias vector of each copied layer is gone with its slip
        assert sum(p.numel() for p in model.parameters()) == golden.meta["parameter_count"]
        moved = (golden["out/logits"].log_softmax(-1) - golden["fixed/logits"].log_softmax(-1)).abs().max().item()
        assert moved > 0.01
        report = capsys.readouterr().out
        assert "; largest change of a bias" in report
        assert "--retie changes the model's function" in report

    def test_admin(self, tmp_path):
        """Trained ratios, which the release's profile file does not have, and the release's slip."""
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


def edited(name, **overrides):
    """Return a checkpoint with other settings; ``model`` maps names to tensors, or to ``None`` to leave one out."""
    tensors = overrides.pop("model", {})
    checkpoint = release_checkpoint(name, **overrides)
    checkpoint["model"].update(tensors)
    checkpoint["model"] = {k: v for k, v in checkpoint["model"].items() if v is not None}
    return checkpoint


def first_layers(model, owners, slip=True):
    """Return a 6-layer model's tensors with each layer that of its owner, as the sharing release stores them."""
    result = {name: tensor for name, tensor in model.items() if ".layers." not in name}
    for stack in ("encoder", "decoder"):
        for depth, owner in enumerate(owners):
            prefix = f"{stack}.layers.{owner}."
            for name in [name for name in model if name.startswith(prefix)]:
                result[name.replace(prefix, f"{stack}.layers.{depth}.")] = model[name]
            if slip and stack == "decoder" and owner != depth:
                bias = f"decoder.layers.{depth}.encoder_attn.in_proj_bias"
                result[bias] = model[f"{prefix}self_attn.in_proj_bias"]
    return result


class TestSharing:
    def test_release_indices_are_the_releases(self):
        maps = json.loads((GOLDEN / "share_layer_params/layer_maps.json").read_text())["owner_layer"]
        for share_type, cases in maps.items():
            for key, owners in cases.items():
                k = int(key.split("K=")[1])
                indices = release_indices(share_type, len(owners), k)
                assert [indices.index(index) for index in indices] == owners, (share_type, key)
        for k, share_type, message in (
            (0, "cycle", "cannot build"),
            (2, "spiral", "spiral is not one of the release's"),
        ):
            with pytest.raises(InputError, match=message):
                release_indices(share_type, 6, k)

    @pytest.mark.parametrize("slip", [True, False])
    def test_order_with_gaps_becomes_untied(self, slip, tmp_path, capsys):
        """K=4 of N=6 layers: 0 0 0 0 1 1, which no --layer-sharing has."""
        checkpoint = release_checkpoint(SEQUENCE, share_layer_num=4)
        checkpoint["model"] = first_layers(checkpoint["model"], [0, 0, 0, 0, 4, 4], slip)
        path = convert(checkpoint, tmp_path)
        report = capsys.readouterr().out
        assert (
            "--share-type sequence --share-layer-num 4 of 6 encoder and 6 decoder layers has an order that no" in report
        )
        _, model, cfg = loaded(SEQUENCE, path, tmp_path)
        assert cfg.model.layer_sharing == "none"
        assert torch.equal(model.encoder.layers[0].fc1.weight, model.encoder.layers[3].fc1.weight)
        path.unlink()
        assert "so --retie cannot tie it" in refused(checkpoint, tmp_path, capsys, "--retie")

    def test_without_the_slip_layers_are_tied(self, tmp_path, capsys):
        checkpoint = release_checkpoint(SEQUENCE, share_layer_num=6)
        checkpoint["model"] = first_layers(checkpoint["model"], [0] * 6, slip=False)
        _, model, cfg = loaded(SEQUENCE, convert(checkpoint, tmp_path), tmp_path)
        assert (cfg.model.layer_sharing, cfg.model.encoder_unique_layers) == ("sequence", 1)
        assert model.decoder.layers[0].fc1.weight is model.decoder.layers[5].fc1.weight
        assert "untied" not in capsys.readouterr().out
        convert(checkpoint, tmp_path, "--retie")
        assert "--retie changed nothing" in capsys.readouterr().out

    def test_one_layer_per_set_is_no_sharing(self, tmp_path, capsys):
        checkpoint = release_checkpoint("b2t_connection/postln_3_3", share_params_cross_layer=True)
        checkpoint["args"].share_layer_num, checkpoint["args"].share_type = 1, "cycle_reverse"
        _, _, cfg = loaded("b2t_connection/postln_3_3", convert(checkpoint, tmp_path), tmp_path)
        assert cfg.model.layer_sharing == "none"
        assert "--share-layer-num 1 shares nothing" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (
                "encoder.layers.1.fc2.bias",
                r"encoder layers use the parameter sets 0 0 1 1 2 2, but by its weights 0 1 2 2",
            ),
            (
                "decoder.layers.5.encoder_attn.in_proj_bias",
                "decoder layer 5 shares with layer 4, but its cross-attention",
            ),
            ("decoder.embed_tokens.weight", "settings tie (de|en)coder.embed_tokens.weight to another"),
        ],
    )
    def test_weights_that_contradict_the_settings(self, name, message, tmp_path, capsys):
        checkpoint = release_checkpoint(SEQUENCE)
        checkpoint["model"][name] = checkpoint["model"][name] + 0.5
        assert re.search(message, refused(checkpoint, tmp_path, capsys))

    def test_pre_ln(self, tmp_path):
        """The sharing release with pre-norm, of which no recording is given: the scheme, the order, the final norms."""
        shared = release_checkpoint(SEQUENCE, encoder_normalize_before=True, decoder_normalize_before=True)
        norms = {k: v for k, v in raw_state(Golden("b2t_connection/preln_3_3")).items() if "coder.layer_norm" in k}
        assert len(norms) == 4
        shared["model"].update(norms)
        _, model, cfg = loaded(SEQUENCE, convert(shared, tmp_path, "--retie"), tmp_path)
        assert (cfg.model.residual, cfg.model.layer_sharing) == ("pre_ln", "sequence")
        assert torch.equal(model.encoder.layer_norm.weight, norms["encoder.layer_norm.weight"])


class TestKinds:
    """Averaged, half-precision and otherwise different checkpoints of the releases."""

    def test_averaged_by_the_release(self, tmp_path):
        """The mean of files, where each name has a tensor of its own, converts to the mean of the conversions."""
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

    def test_half_precision_stays(self, tmp_path):
        checkpoint = release_checkpoint(SEQUENCE)
        whole = checkpoint["model"]
        checkpoint["model"] = {name: tensor.half() for name, tensor in whole.items()}
        path = convert(checkpoint, tmp_path, "--retie")
        stored = checkpoints.load(path)["model"]
        weight = stored["encoder.layers.1.fc1.weight"]
        assert torch.equal(weight, whole["encoder.layers.0.fc1.weight"].half())
        assert weight.data_ptr() == stored["encoder.layers.0.fc1.weight"].data_ptr()

    def test_separate_output_layer_and_dictionaries(self, tmp_path):
        """Without shared embeddings the output layer is a bare parameter, decoder.embed_out."""
        name = B2T
        flags = {"share_all_embeddings": False, "share_decoder_input_output_embed": False}
        checkpoint = release_checkpoint(name, **flags)
        table = checkpoint["model"]["decoder.embed_tokens.weight"]
        checkpoint["model"]["decoder.embed_out"] = table.flip(0)
        checkpoint["model"]["encoder.embed_tokens.weight"] = torch.cat([table, table[:3]])
        stored = checkpoints.load(convert(checkpoint, tmp_path))["model"]
        assert torch.equal(stored["decoder.output_projection.weight"], table.flip(0))
        assert stored["encoder.embed_tokens.weight"].size(0) == 27

    def test_learned_positions_and_activation(self, tmp_path):
        name = B2T
        checkpoint = release_checkpoint(
            name, encoder_learned_pos=True, decoder_learned_pos=True, activation_fn="gelu",
            max_source_positions=30, max_target_positions=30,
        )  # fmt: skip
        for stack, positions in (("encoder", "embed_positions"), ("decoder", "embed_positions_original")):
            del checkpoint["model"][f"{stack}.{positions}._float_tensor"]
            checkpoint["model"][f"{stack}.{positions}.weight"] = torch.randn(32, 16)
        stored = checkpoints.load(convert(checkpoint, tmp_path))["model"]
        assert stored["decoder.embed_positions.weight"].shape == (32, 16)

    @pytest.mark.parametrize("stored", [True, False])
    def test_without_layer_norm(self, stored, tmp_path, capsys):
        """--no-layer-norm with B2T, whether or not the file has norms that are not used."""
        checkpoint = release_checkpoint(B2T, no_layer_norm=True)
        norms = [name for name in checkpoint["model"] if "layer_norm" in name]
        if not stored:
            checkpoint["model"] = {k: v for k, v in checkpoint["model"].items() if k not in norms}
        _, _, cfg = loaded(B2T, convert(checkpoint, tmp_path), tmp_path)
        assert cfg.model.residual == "b2t_no_ln"
        assert (f"left out: {len(norms)} tensors of norms" in capsys.readouterr().out) == stored

    def test_unknown_settings_are_named(self, tmp_path, capsys):
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

    def test_what_is_written(self, tmp_path):
        """Settings as fairseq-train stores them; no optimizer, no old statistics; the scheme beside the weights."""
        path = convert(release_checkpoint(B2T), tmp_path)
        state = torch.load(path, weights_only=True)
        assert state["args"] is None
        assert state["cfg"]["task"]["_name"] == "translation"
        assert (state["cfg"]["task"]["source_lang"], state["cfg"]["task"]["target_lang"]) == ("en", "de")
        assert state["cfg"]["model"]["_name"] == "b2t_transformer"
        assert state["last_optimizer_state"] is None
        assert state["optimizer_history"][-1]["num_updates"] == 7
        assert state["extra_state"] == {
            "train_iterator": {"epoch": 1, "iterations_in_epoch": 0, "shuffle": True}, "val_loss": 3.5, "best": 3.5,
        }  # fmt: skip
        assert state["model"]._metadata["encoder"]["residual"] == "b2t"
        # fairseq's label smoothing spreads over V - 1 symbols, the release's over V
        assert state["cfg"]["criterion"]["label_smoothing"] == pytest.approx(0.1 * 23 / 24)


class TestStock:
    """fairseq's own transformer, and CTranslate2 from it."""

    @pytest.fixture(scope="class")
    def corpus(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("corpus")
        write_corpus(folder)
        binarize(folder)
        return folder

    def test_trained_by_the_plugin(self, corpus, tmp_path, monkeypatch, capsys):
        """fairseq's own class gives the same logits, and fairseq-generate without a flag of ours the same output."""
        exact = ["--residual", "pre_ln", "--kernels", "fairseq"]
        train(str(corpus / "bin"), tmp_path, *SHARED, *exact, "--max-update", "3")
        original = tmp_path / "checkpoint_last.pt"
        stock = convert(original, tmp_path, "--to", "stock", output="stock.pt")
        assert "tokens are those of the plugin's model within" in capsys.readouterr().out
        state = load(stock)
        assert state["cfg"]["model"]._name == "transformer"
        assert not any(name.startswith(("residual", "layer_sharing")) for name in vars(state["cfg"]["model"]))
        models = [load_model(path, corpus / "bin")[0] for path in (original, stock)]
        assert type(models[1]).__module__.startswith("fairseq.models.transformer")
        dictionary = load_model(stock, corpus / "bin")[2].target_dictionary
        batch = make_batch(dictionary)
        with torch.no_grad():
            theirs, ours = (model(**batch["net_input"])[0] for model in models)
        assert torch.equal(theirs, ours)
        flags = ["--beam", "2", "--cpu", "--max-len-b", "20", "--num-workers", "0"]
        flags += ["--required-batch-size-multiple", "1"]
        outputs = []
        for path in (original, stock):
            monkeypatch.setattr(sys, "argv", ["g", str(corpus / "bin"), "--path", str(path), *flags])
            generate.cli_main()
            outputs.append(re.findall(r"^H-.*", capsys.readouterr().out, flags=re.MULTILINE))
        assert len(outputs[0]) == 21
        assert outputs[0] == outputs[1]

    def test_b2t_and_pruned_models_are_refused(self, tmp_path, capsys):
        plugin = convert(release_checkpoint(B2T), tmp_path, output="plugin.pt")
        message = refused(plugin, tmp_path, capsys, "--to", "stock")
        assert "--residual b2t cannot be written as fairseq's own transformer" in message
        assert "LN(layer_input + x + f(x)), it would translate wrongly; use fairseq-generate with this" in message
        plugin = convert(release_checkpoint(POST), tmp_path, output="plugin.pt")
        state = load(plugin)
        state["cfg"]["model"]["decoder_layers_to_keep"] = "0,2"
        torch.save(state, plugin)
        assert "--decoder-layers-to-keep 0,2: pruned models" in refused(plugin, tmp_path, capsys, "--to", "stock")
        state["cfg"]["model"] = {"_name": "transformer", "encoder_layers": 3}
        torch.save(state, plugin)
        assert "it is of the model transformer, not of b2t" in refused(plugin, tmp_path, capsys, "--to", "stock")

    @pytest.mark.parametrize(("name", "flags"), [(SEQUENCE, ["--retie"]), (SEQUENCE, []), (PRE, [])])
    def test_ctranslate2(self, name, flags, tmp_path):
        """The same translations, and scores to 1e-4, of search and of given sentences."""
        ctranslate2 = pytest.importorskip("ctranslate2")
        golden, model, _ = loaded(name, convert(release_checkpoint(name), tmp_path, "--to", "stock", *flags), tmp_path)
        assert type(model).__module__.startswith("fairseq.models.transformer")
        converter = ctranslate2.converters.FairseqConverter(str(tmp_path / "converted.pt"), str(tmp_path))
        converter.convert(str(tmp_path / "ctranslate2"))
        translator = ctranslate2.Translator(str(tmp_path / "ctranslate2"), intra_threads=1)
        batch, dictionary = golden.batch(), golden.dictionary
        words = [[dictionary[i] for i in row if i > 2] for row in batch["net_input"]["src_tokens"].tolist()]
        # CTranslate2's shortest length is a constraint on the probabilities, fairseq's only on the search
        ours = translator.translate_batch(
            words, beam_size=1, length_penalty=0.6, min_decoding_length=0, max_decoding_length=13, return_scores=True
        )
        settings = {"max_len_a": 0, "max_len_b": 12, "min_len": 0, "len_penalty": 0.6}
        theirs = SequenceGenerator([model], dictionary, beam_size=1, **settings).generate([model], batch)
        for found, (best, *_) in zip(ours, theirs, strict=True):
            forced = best["tokens"].numel() == 13
            assert found.hypotheses[0][:12] == [dictionary[i] for i in best["tokens"][:-1]]
            assert forced or found.scores[0] == pytest.approx(best["score"].item(), abs=1e-4)
        # the same sentences, whatever each program's search would find
        theirs = SequenceGenerator([model], dictionary, beam_size=4, **settings).generate([model], batch)
        given = translator.score_batch(words, [[dictionary[i] for i in best["tokens"][:-1]] for best, *_ in theirs])
        for scores, (best, *_) in zip(given, theirs, strict=True):
            assert scores.log_probs == pytest.approx(best["positional_scores"].tolist(), abs=1e-4)


class TestSafetensors:
    @pytest.mark.parametrize(
        ("name", "flags"), [(SEQUENCE, ["--retie"]), (SEQUENCE, []), (B2T, []), (ADMIN, ["--retie"])]
    )
    def test_loads_into_the_same_model(self, name, flags, tmp_path):
        pytest.importorskip("safetensors")
        plugin = convert(release_checkpoint(name), tmp_path, *flags)
        convert(plugin, tmp_path, "--to", "safetensors", output="model.safetensors")
        assert {path.name for path in tmp_path.iterdir()} >= {"model.safetensors", "model.json"}
        model = export.load(tmp_path / "model")
        state = load(plugin)["model"]
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        config = json.loads((tmp_path / "model.json").read_text())
        assert config["vocabulary_sizes"] == {"encoder": 24, "decoder": 24}
        assert config["model"]["residual"] == load(plugin)["cfg"]["model"]["residual"]

    def test_each_parameter_once(self, tmp_path):
        safe_open = pytest.importorskip("safetensors").safe_open
        convert(release_checkpoint(SEQUENCE), tmp_path, "--retie", "--to", "safetensors", output="model")
        config = json.loads((tmp_path / "model.json").read_text())
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            names = set(file.keys())
            stored = sum(file.get_tensor(name).numel() for name in names if not name.endswith("version"))
        assert stored == Golden(SEQUENCE).meta["parameter_count"]
        assert names.isdisjoint(config["tied"])
        assert names >= set(config["tied"].values())
        assert config["tied"]["decoder.layers.5.fc1.weight"] == "decoder.layers.4.fc1.weight"

    def test_messages(self, tmp_path, monkeypatch, capsys):
        plugin = convert(release_checkpoint(POST), tmp_path, output="plugin.pt")
        convert(plugin, tmp_path, "--to", "safetensors", output="model")
        (tmp_path / "model.json").write_text('{"format": "other"}')
        with pytest.raises(InputError, match=r"model\.json: format 'other', not 'b2t_fairseq 1'"):
            export.load(tmp_path / "model")
        monkeypatch.setitem(sys.modules, "safetensors.torch", None)
        message = refused(plugin, tmp_path, capsys, "--to", "safetensors")
        assert "needs the package safetensors: pip install safetensors" in message


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "changes", "message"),
        [
            (B2T, PRE_NORM, "--residual-bottom-to-top with --encoder-normalize-before is no published method"),
            (ADMIN, PRE_NORM, "--init-type adaptive with --encoder-normalize-before is no published method"),
            (POST, {"encoder_normalize_before": True}, "--encoder-normalize-before without --decoder-normalize-before"),
            (POST, {"decoder_normalize_before": True}, "--decoder-normalize-before without --encoder-normalize-before"),
            (POST, {"no_layer_norm": True}, "--no-layer-norm without --residual-bottom-to-top"),
            (POST, {"ordinary_sinpos": True}, "--ordinary-sinpos True is not converted: it needs other position"),
            (POST, {"one_emb": "mem"}, "--one-emb mem is not converted"),
            (POST, {"adaptive_softmax_cutoff": "100"}, "--adaptive-softmax-cutoff 100 is not converted"),
            (POST, {"encoder_layers_to_keep": "0,1"}, "--encoder-layers-to-keep 0,1 is not converted"),
            (POST, {"decoder_input_dim": 8}, "--decoder-input-dim 8 differs from --encoder-embed-dim 16"),
            (POST, {"task": "denoising"}, "--task denoising: only models of the translation task"),
            (POST, {"encoder_layers": 2}, "it has encoder.layers.2.self_attn.k_proj.weight, but --encoder-layers 2"),
            (POST, {"decoder_layers": 4}, "Missing key(s) in state_dict: "),
            (POST, {"encoder_ffn_embed_dim": 64}, "size mismatch for encoder.layers.0.fc1.weight"),
            (POST, {"encoder_layers": "x"}, "--encoder-layers 'x' is no number"),
            (POST, {"dropout": None}, "--dropout None is no number"),
            (SEQUENCE, {"share_layer_num": None}, "--share-layer-num None is no number"),
            (POST, {"activation_fn": "gelu_of_mine"}, "its model cannot be built: --activation-fn gelu_of_mine"),
            (SEQUENCE, {"init_type": "rezero"}, "--init-type rezero is not converted"),
            (SEQUENCE, {"share_type": "cycle"}, "but by its weights 0 0 1 1 2 2: settings and weights are not of one"),
            (SEQUENCE, {"share_layer_num": 0, "share_type": "cycle"}, "--share-layer-num 0: the release cannot build"),
            (POST, {"model": {"encoder.layers.0.fc9.weight": torch.zeros(2)}}, "encoder.layers.0.fc9.weight"),
            (POST, {"model": {"decoder.layers.2.fc1.bias": None}}, "decoder.layers.2.fc1.bias"),
            (POST, {"model": {"encoder.version": torch.tensor([2.0])}}, "encoder.version is [2.0], not 3"),
            (
                POST,
                {"model": {"encoder.layers.0.fc1.bias": torch.full((32,), torch.nan)}},
                "differ from those of the rel",
            ),
        ],
    )
    def test_settings_and_weights(self, name, changes, message, tmp_path, capsys):
        assert message in refused(edited(name, **changes), tmp_path, capsys)

    def test_missing_settings(self, tmp_path, capsys):
        for name, missing in ((POST, ["encoder_layers", "activation_fn"]), (SEQUENCE, ["share_type"])):
            checkpoint = release_checkpoint(name)
            for setting in missing:
                delattr(checkpoint["args"], setting)
            listed = ", ".join("--" + setting.replace("_", "-") for setting in missing)
            assert f"its settings lack {listed}: not those" in refused(checkpoint, tmp_path, capsys)

    def test_incomplete_ratios(self, tmp_path, capsys):
        checkpoint = edited(ADMIN, model={"decoder.layers.1.fc_ratio_change": None})
        message = refused(checkpoint, tmp_path, capsys)
        assert "decoder layer 1 has the ratios self_ratio_change, encoder_ratio_change, not self_" in message

    def test_other_models(self, tmp_path, capsys):
        """A language model, a stock checkpoint, one of this plugin, and what --retie is not for."""
        language_model = release_checkpoint(POST)
        language_model["model"] = {k: v for k, v in language_model["model"].items() if k.startswith("decoder.")}
        assert "a language model of the release, which is not converted" in refused(language_model, tmp_path, capsys)
        stock = release_checkpoint(POST)
        del stock["args"].residual_bottom_to_top
        assert "neither --residual-bottom-to-top nor --share-params-cross-layer" in refused(stock, tmp_path, capsys)
        assert "--retie is for models that share" in refused(release_checkpoint(POST), tmp_path, capsys, "--retie")
        plugin = convert(release_checkpoint(POST), tmp_path, output="plugin.pt")
        assert "it is already of this plugin; choose --to stock or" in refused(plugin, tmp_path, capsys)
        message = refused(plugin, tmp_path, capsys, "--to", "stock", "--retie")
        assert "--retie is for checkpoints of the sharing release" in message


class TestReading:
    """Only data is restored, and a damaged file is called one."""

    @pytest.mark.parametrize("old", [True, False])
    def test_meters_are_data(self, old, tmp_path):
        meters = ("AverageMeter", "TimeMeter", "StopwatchMeter")
        path = save_as_release(release_checkpoint(POST), tmp_path / "old.pt", old, meters)
        assert b2t(["convert", str(path), str(tmp_path / "converted.pt")]) == 0
        # nowhere else, and not afterwards either
        with pytest.raises(InputError, match=r"fairseq\.meters\.AverageMeter"):
            checkpoints.load(path)

    def test_no_other_class(self, tmp_path, capsys):
        """Neither another name of that module nor that name of another module."""
        for meters, module in ((("Evaluator",), "fairseq.meters"), (("AverageMeter",), "fairseq.others")):
            path = save_as_release(release_checkpoint(POST), tmp_path / "old.pt", True, meters, module)
            message = refused(path, tmp_path, capsys)
            assert "holds more than tensors and settings, so it is not opened" in message
            assert f"{module}.{meters[0]}" in message

    @pytest.mark.parametrize("old", [True, False])
    def test_code_is_not_run(self, old, tmp_path, capsys):
        checkpoint = {**release_checkpoint(POST), "last_optimizer_state": Attack(tmp_path / "ran")}
        path = tmp_path / "attack.pt"
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not old)
        assert "is not opened" in refused(path, tmp_path, capsys)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("old", [True, False])
    def test_half_a_file(self, old, tmp_path, capsys):
        content = save_as_release(release_checkpoint(POST), tmp_path / "whole.pt", old).read_bytes()
        half = tmp_path / "half.pt"
        for length in (0, 1, 2, 40, 1000, len(content) // 3, len(content) - 1):
            half.write_bytes(content[:length])
            message = refused(half, tmp_path, capsys)
            assert "is not a whole checkpoint" in message or "is not opened" in message

    def test_foreign_files(self, tmp_path, capsys):
        (tmp_path / "text.pt").write_text("not a checkpoint\n")
        assert "is not a whole checkpoint" in refused(tmp_path / "text.pt", tmp_path, capsys)
        torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt", _use_new_zipfile_serialization=False)
        assert "is not a fairseq checkpoint: it has no model" in refused(tmp_path / "other.pt", tmp_path, capsys)
        assert "no such checkpoint" in refused(tmp_path / "none.pt", tmp_path, capsys)


class TestWriting:
    @pytest.fixture
    def old(self, tmp_path):
        return save_as_release(release_checkpoint(POST), tmp_path / "old.pt")

    def test_not_over_the_checkpoint_itself(self, old, tmp_path, capsys):
        before = old.read_bytes()
        assert b2t(["convert", str(old), str(tmp_path / "." / "old.pt")]) == 1
        assert "is the checkpoint itself; give another file to write" in capsys.readouterr().err
        assert old.read_bytes() == before

    def test_an_earlier_result_is_replaced(self, old, tmp_path):
        (tmp_path / "converted.pt").write_text("earlier")
        checkpoints.load(convert(old, tmp_path))

    @pytest.mark.parametrize("to", ["plugin", "stock", "safetensors"])
    def test_missing_folder(self, to, old, tmp_path, capsys):
        assert b2t(["convert", str(old), str(tmp_path / "nowhere/converted"), "--to", to]) == 1
        assert f"there is no folder {tmp_path}/nowhere" in capsys.readouterr().err

    @pytest.mark.parametrize("to", ["plugin", "stock", "safetensors"])
    def test_full_disk(self, to, old, tmp_path):
        """A limit on the size of files stands in for a full disk: the old files stay, no half one appears."""
        convert(old, tmp_path, "--to", to)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(OSError, match=r"could not be written|large|space"):
                b2t(["convert", str(old), str(tmp_path / "converted.pt"), "--to", to])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(not REAL.exists(), reason="the releases' checkpoints are not beside this project")
@pytest.mark.parametrize(
    ("name", "file"), [("A_b2t", "checkpoint_last"), ("A_b2t", "averaged"), ("C_sequence", "checkpoint_last")]
)
class TestRealCheckpoints:
    """Trained, decoded and validated by the releases' own programs."""

    @pytest.fixture
    def converted(self, name, file, tmp_path):
        return convert(REAL / name / f"{file}.pt", tmp_path)

    def test_translations(self, name, file, converted):
        model, _, task = load_model(converted, REAL / name)
        dataset = sentence_pairs(REAL / name, "test", task.source_dictionary)
        recorded = expected(name)["decode"][file]
        for key, beam, lenpen in (("beam4_lenpen0.6", 4, 0.6), ("beam1_lenpen1.0", 1, 1.0)):
            found = decode(model, dataset, beam, lenpen)
            assert len(found) == len(recorded[key]["sentences"]) == 100
            for sentence in recorded[key]["sentences"]:
                ours = found[sentence["id"]]
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

    def test_validation_loss(self, name, file, converted):
        """By the release's formula, and by fairseq's own criterion with the converted settings."""
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
        assert sums["release"] / sums["tokens"] / math.log(2) == pytest.approx(
            recorded["loss_base2_per_token"], abs=1e-5
        )
        assert sums["fairseq"] / sums["tokens"] / math.log(2) == pytest.approx(
            recorded["loss_base2_per_token"], abs=1e-5
        )
        assert sums["nll"] / sums["tokens"] / math.log(2) == pytest.approx(recorded["nll_base2_per_token"], abs=1e-5)


@pytest.mark.skipif(not REAL.exists(), reason="the releases' checkpoints are not beside this project")
def test_ctranslate2_translates_as_the_sharing_release(tmp_path):
    """Beam search over 100 real sentences: the same best translations, scores to 1e-4."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    folder = REAL / "C_sequence"
    stock = convert(folder / "checkpoint_last.pt", tmp_path, "--to", "stock")
    ctranslate2.converters.FairseqConverter(str(stock), str(folder)).convert(str(tmp_path / "ctranslate2"))
    translator = ctranslate2.Translator(str(tmp_path / "ctranslate2"), intra_threads=1)
    words = [line.split() for line in (folder / "test.en").read_text(encoding="utf-8").splitlines()]
    model, _, task = load_model(stock, folder)
    theirs = decode(model, sentence_pairs(folder, "test", task.source_dictionary), 4, 0.6, min_len=0)
    ours = translator.translate_batch(
        words, beam_size=4, length_penalty=0.6, min_decoding_length=0, max_decoding_length=201, return_scores=True
    )
    for number, found in enumerate(ours):
        best = theirs[number][0]
        assert " ".join(found.hypotheses[0]) == task.target_dictionary.string(best["tokens"])
        assert found.scores[0] == pytest.approx(best["score"].item(), abs=1e-4)
