"""``b2t convert``: what cannot be converted is refused with a reason, and writing is whole or nothing."""

import re

import pytest
import torch
from attacks import Attack
from conversion import ADMIN, B2T, POST, PRE_NORM, SEQUENCE, convert, edited, refused
from disk import full_after
from releases import release_checkpoint, save_as_release

from b2t_cli import main as b2t
from b2t_common.errors import InputError
from b2t_fairseq import checkpoints

pytestmark = pytest.mark.usefixtures("settings_translated_once")


class TestRefusals:
    """Checkpoints that cannot be converted are refused, with a message that quotes the reason."""

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
    def test_settings_and_weights_that_are_not_supported(self, name, changes, message, tmp_path, capsys):
        assert message in refused(edited(name, **changes), tmp_path, capsys)

    def test_missing_settings(self, tmp_path, capsys):
        """The message lists the settings that a checkpoint of a release would have."""
        for name, missing in ((POST, ["encoder_layers", "activation_fn"]), (SEQUENCE, ["share_type"])):
            checkpoint = release_checkpoint(name)
            for setting in missing:
                delattr(checkpoint["args"], setting)
            listed = ", ".join("--" + setting.replace("_", "-") for setting in missing)
            assert f"its settings lack {listed}: not those" in refused(checkpoint, tmp_path, capsys)

    def test_incomplete_ratios_of_admin(self, tmp_path, capsys):
        checkpoint = edited(ADMIN, model={"decoder.layers.1.fc_ratio_change": None})
        message = refused(checkpoint, tmp_path, capsys)
        assert "decoder layer 1 has the ratios self_ratio_change, encoder_ratio_change, not self_" in message

    def test_other_models(self, tmp_path, capsys):
        """These are a language model, fairseq's transformer, a model of this plugin, and models without sharing."""
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
    """Only data is read from a checkpoint, and a damaged file is reported as such."""

    @pytest.mark.parametrize("old", [True, False])
    def test_meters_of_old_checkpoints_are_read_as_data(self, old, tmp_path):
        """Only conversion reads objects of these classes, which fairseq no longer has."""
        meters = ("AverageMeter", "TimeMeter", "StopwatchMeter")
        path = save_as_release(release_checkpoint(POST), tmp_path / "old.pt", old, meters)
        assert b2t(["convert", str(path), str(tmp_path / "converted.pt")]) == 0
        with pytest.raises(InputError, match=r"fairseq\.meters\.AverageMeter"):
            checkpoints.load(path)

    def test_objects_of_other_classes_are_refused(self, tmp_path, capsys):
        """Another class of that module is refused, and a class of that name in another module."""
        for meters, module in ((("Evaluator",), "fairseq.meters"), (("AverageMeter",), "fairseq.others")):
            path = save_as_release(release_checkpoint(POST), tmp_path / "old.pt", True, meters, module)
            message = refused(path, tmp_path, capsys)
            assert "holds more than tensors and settings, so it is not opened" in message
            assert f"{module}.{meters[0]}" in message

    @pytest.mark.parametrize("old", [True, False])
    def test_code_is_not_run(self, old, tmp_path, capsys):
        """A checkpoint that would run code is not opened."""
        checkpoint = {**release_checkpoint(POST), "last_optimizer_state": Attack(tmp_path / "ran")}
        path = tmp_path / "attack.pt"
        torch.save(checkpoint, path, _use_new_zipfile_serialization=not old)
        assert "is not opened" in refused(path, tmp_path, capsys)
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("old", [True, False])
    def test_half_a_file_is_refused(self, old, tmp_path, capsys):
        content = save_as_release(release_checkpoint(POST), tmp_path / "whole.pt", old).read_bytes()
        half = tmp_path / "half.pt"
        for length in (0, 1, 2, 40, 1000, len(content) // 3, len(content) - 1):
            half.write_bytes(content[:length])
            message = refused(half, tmp_path, capsys)
            assert "is not a whole checkpoint" in message or "is not opened" in message

    def test_other_files_are_refused(self, tmp_path, capsys):
        (tmp_path / "text.pt").write_text("not a checkpoint\n")
        assert "is not a whole checkpoint" in refused(tmp_path / "text.pt", tmp_path, capsys)
        torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt", _use_new_zipfile_serialization=False)
        assert "is not a fairseq checkpoint: it has no model" in refused(tmp_path / "other.pt", tmp_path, capsys)
        assert "no such checkpoint" in refused(tmp_path / "none.pt", tmp_path, capsys)


class TestWriting:
    @pytest.fixture
    def old(self, tmp_path):
        return save_as_release(release_checkpoint(POST), tmp_path / "old.pt")

    def test_the_checkpoint_itself_is_not_overwritten(self, old, tmp_path, capsys):
        before = old.read_bytes()
        assert b2t(["convert", str(old), str(tmp_path / "." / "old.pt")]) == 1
        assert "is the checkpoint itself; give another file to write" in capsys.readouterr().err
        assert old.read_bytes() == before

    def test_an_earlier_result_is_replaced(self, old, tmp_path):
        (tmp_path / "converted.pt").write_text("earlier")
        checkpoints.load(convert(old, tmp_path))

    @pytest.mark.parametrize("to", ["plugin", "stock", "safetensors"])
    def test_a_missing_folder_is_an_error(self, to, old, tmp_path, capsys):
        assert b2t(["convert", str(old), str(tmp_path / "nowhere/converted"), "--to", to]) == 1
        assert f"there is no folder {tmp_path}/nowhere" in capsys.readouterr().err

    @pytest.mark.parametrize("to", ["plugin", "stock", "safetensors"])
    def test_a_full_disk_leaves_the_old_files(self, to, old, tmp_path, capsys):
        """No half file is left either, and the error is one line."""
        convert(old, tmp_path, "--to", to)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        capsys.readouterr()
        with full_after(20_000):
            assert b2t(["convert", str(old), str(tmp_path / "converted.pt"), "--to", to]) == 1
        error = capsys.readouterr().err
        assert re.search(r"^b2t convert: error: .*(could not be written|large|space)", error)
        assert error.count("\n") == 1
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
