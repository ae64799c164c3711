"""What one part of the project writes and another reads has one format: the model's line, a run's files, its log."""

import re
import subprocess

import pytest
from helpers import ROOT, make_model
from language_models import make_lm
from logs import PREFIX, reported, validated

from b2t_cli.runs.progress import short
from b2t_common import run_folder
from b2t_common.errors import InputError
from b2t_common.files import decode_line, read_lines, write_whole
from b2t_common.model_line import ModelLine, format_model_line, parse_model_line

SETS = {"encoder": [0, 1, 1, 0], "decoder": [0, 10, 11]}
LINE = ModelLine("b2t", "cycle_rev", SETS, 1_234_567, 22_222_222)


class TestModelLine:
    @pytest.mark.parametrize("sets", [SETS, {"decoder": [0]}])
    @pytest.mark.parametrize(
        "sharing", ["none", "0,1,1,0/0,0,1 --share-sublayers feed_forward --no-share-norms --share-encoder-decoder"]
    )
    def test_what_is_written_is_read(self, sets, sharing):
        line = ModelLine("post_ln", sharing, sets, 7, 1_000)
        assert parse_model_line(f"{PREFIX}b2t_fairseq.models.assembly | {format_model_line(line)}\n") == line

    def test_its_words_do_not_change(self):
        """Logs of earlier versions are read too."""
        assert format_model_line(LINE) == (
            "--residual b2t --layer-sharing cycle_rev; parameter sets: encoder 0 1 1 0, decoder 0 10 11; "
            "1,234,567 parameters (22,222,222 without sharing)"
        )

    def test_a_line_that_was_cut_is_not_read(self):
        """The next line may follow it without a line end."""
        text = format_model_line(LINE)
        for length in range(len(text)):
            assert parse_model_line(text[:length]) is None
            assert parse_model_line(f"{text[:length]}{PREFIX}{text}") in (LINE, None)

    @pytest.mark.parametrize("build", [make_model, make_lm])
    def test_it_is_what_a_model_logs(self, build, caplog):
        sharing = {"layer_sharing": "cycle", "decoder_unique_layers": 2}
        if build is make_model:
            sharing["encoder_unique_layers"] = 3
        with caplog.at_level("INFO", logger="b2t_fairseq"):
            model = build(residual="b2t", **sharing)
        (line,) = filter(None, map(parse_model_line, caplog.messages))
        assert (line.residual, line.layer_sharing) == ("b2t", "cycle")
        assert line.parameter_sets["decoder"] == [0, 1] * 3
        assert line.parameters == sum(parameter.numel() for parameter in model.parameters()) < line.unshared_parameters


class TestRunFolder:
    @pytest.mark.parametrize(
        ("script", "names"),
        [
            ("train.sh", [run_folder.LOG, run_folder.SETTINGS, run_folder.DATA, run_folder.CHOSEN]),
            ("evaluate.sh", [run_folder.SETTINGS, run_folder.DATA, run_folder.LAST_CHECKPOINT, "averaged.pt"]),
            ("evaluate.sh", [".generated.txt", "$run/evaluation"]),
        ],
    )
    def test_the_scripts_use_the_same_names(self, script, names):
        text = (ROOT / "scripts" / script).read_text()
        assert [name for name in names if name not in text] == []

    def test_names_of_numbered_checkpoints_are_those_of_fairseq(self):
        epochs, updates = run_folder.NUMBERED_CHECKPOINTS.values()
        assert re.fullmatch(epochs, "checkpoint12.pt")[1] == "12"
        assert re.fullmatch(updates, "checkpoint_3_1500.pt")[1] == "1500"
        for name in (run_folder.LAST_CHECKPOINT, run_folder.BEST_CHECKPOINT, "checkpoint1.pt.tmp12"):
            assert not re.fullmatch(epochs, name)
            assert not re.fullmatch(updates, name)


class TestProgress:
    """The quickstart shows one short line per report."""

    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            (
                reported(150, 4.25, wps=1234.5, wall=61),
                "update    150 of 4000   loss  4.250     1,234 target tokens/s      61 s",
            ),
            (
                'train_inner | {"loss": "4.25", "num_updates": "150", "wps": "1234.5", "wall": "61"}',
                "update    150 of 4000   loss  4.250     1,234 target tokens/s      61 s",
            ),
            (reported(150, "nan"), "update    150 of 4000   loss    inf     1,000 target tokens/s     nan s"),
            (validated(300, 4.0), "    validation perplexity 16.00 after 300 updates"),
            (f"b2t_fairseq.models.assembly | {format_model_line(LINE)}", format_model_line(LINE)),
            ("root | ValueError: of no use", "ValueError: of no use"),
            ("train | epoch 001 | loss 4 | ppl 16 | num_updates 99", None),
            ("fairseq.trainer | begin training epoch 1", None),
        ],
    )
    def test_every_kind_of_line_has_its_short_form(self, line, shown):
        assert short(f"{PREFIX}{line}\n", 4000) == shown

    def test_the_program_reads_standard_input(self):
        command = ["python", "-m", "b2t_cli.runs.progress", "10"]
        log = f"{PREFIX}{reported(5, 4.0)}\nnothing\n"
        result = subprocess.run(command, input=log, capture_output=True, text=True, check=True, cwd=ROOT)
        assert result.stdout.startswith("update      5 of 10 ")
        assert result.stdout.count("\n") == 1


class TestFiles:
    def test_the_line_that_is_not_utf8_is_named(self, tmp_path):
        path = tmp_path / "text"
        path.write_bytes(b"one\ntwo\ngr\xfc\xdfe\n")
        with pytest.raises(InputError, match=r"text is not UTF-8 in line 3 \(invalid start byte\); convert it first"):
            read_lines(path)
        with pytest.raises(InputError, match=r"text is not UTF-8 in line 7 \(invalid start byte\); convert it first"):
            decode_line(b"gr\xfc\xdfe", path, 7)
        assert decode_line("grüße".encode(), path, 1) == "grüße"

    def test_files_are_written_together_or_not_at_all(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        write_whole({first: b"1", second: b"2"})
        with pytest.raises(TypeError):
            write_whole({first: b"new", second: None})
        assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
        assert sorted(tmp_path.iterdir()) == [first, second]
