"""``b2t analyze`` as a command: which models and sentences it reads, what it writes, what it refuses."""

import argparse
import json
import shlex
import shutil
import sys
from xml.etree import ElementTree

import pytest
import torch
from training import MODEL_FLAGS, SHARED, binarize, binarize_source, load, train, write_corpus

from b2t_cli import main, style
from b2t_cli.analysis import figures, measuring, subjects
from b2t_fairseq import admin_profile
from b2t_fairseq.layer_stack import layer_stacks
from b2t_fairseq.residual import SCHEMES

ADMIN = ["--residual", "admin", *SHARED]
FRESH = ["--", *MODEL_FLAGS]
LANGUAGE_MODEL = shlex.split(
    "--task language_modeling --arch b2t_transformer_lm --tokens-per-sample 16 --decoder-embed-dim 16 "
    "--decoder-ffn-embed-dim 32 --decoder-attention-heads 4 --decoder-layers 2 --residual pre_ln"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with data (``bin``), runs, and what cannot be analyzed.

    The latter are data with another dictionary (``other``), a run of fairseq's model (``stock``), and ``empty``.
    """
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
    """Return a function that runs the command without its figures, which take most of the time."""
    monkeypatch.setattr(figures, "draw", lambda models: {})

    def run(*argv, data=None):
        output = ["--output", str(tmp_path / "numbers")]
        assert main(["analyze", "--data", str(data or runs / "bin"), *output, *map(str, argv)]) == 0
        return numbers(tmp_path / "numbers")["models"]

    return run


def numbers(folder):
    """Return the numbers that were written; fail if NaN or infinity is among them."""
    return json.loads((folder / "analysis.json").read_text(), parse_constant=pytest.fail)


class TestCommand:
    def test_files_of_several_models_and_then_of_one(self, runs, tmp_path, monkeypatch, capsys):
        """A run, a checkpoint and a new model are analyzed; the files of a later analysis replace theirs."""
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
        written = numbers(out)
        assert (written["data"], written["subset"]) == (str(runs / "bin"), "valid")
        models = {model["name"]: model for model in written["models"]}
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
    def test_a_models_kernels_and_recomputation_do_not_matter(self, runs, analyze, tmp_path, flag):
        state = load(runs / "shared/checkpoint_last.pt")
        state["cfg"]["model"][flag] = True
        torch.save(state, tmp_path / "model.pt")
        models = analyze(runs / "shared/checkpoint_last.pt", tmp_path / "model.pt")
        assert models[0]["stacks"] == models[1]["stacks"]

    def test_a_model_in_bf16_is_analyzed_in_float32(self, runs, analyze, tmp_path):
        state = load(runs / "plain/checkpoint_last.pt")
        for name, change in (("half", torch.Tensor.bfloat16), ("whole", lambda tensor: tensor.bfloat16().float())):
            changed = {key: change(tensor) for key, tensor in state["model"].items()}
            torch.save({**state, "model": changed}, tmp_path / f"{name}.pt")
        models = analyze(tmp_path / "half.pt", tmp_path / "whole.pt")
        assert models[0]["stacks"] == models[1]["stacks"]

    def test_older_checkpoints_are_analyzed(self, runs, analyze, tmp_path):
        """fairseq before 0.10.2 wrote all settings in one namespace."""
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

    def test_a_diverged_checkpoint_is_analyzed(self, runs, analyze, tmp_path, capsys):
        state = load(runs / "plain/checkpoint_last.pt")
        state["model"]["decoder.layers.2.fc1.weight"].fill_(float("nan"))
        (tmp_path / "a\nrun").mkdir()
        torch.save(state, tmp_path / "a\nrun/checkpoint_last.pt")
        (model,) = analyze(tmp_path / "a\nrun")
        assert model["loss"] is None
        assert model["stacks"]["encoder"]["layers"][3]["angle"] > 0
        # A line break in a name does not break the table.
        assert "\na\N{REPLACEMENT CHARACTER}run  encoder " in capsys.readouterr().out

    def test_a_checkpoint_gives_the_same_numbers_each_time(self, runs, analyze):
        models = analyze(*[runs / "plain"] * 2, runs / "shared")
        assert [model["stacks"] == models[0]["stacks"] for model in models] == [True, True, False]

    def test_a_language_model_is_analyzed(self, analyze, tmp_path):
        write_corpus(tmp_path)
        data = binarize_source(tmp_path)
        (model,) = analyze("--tokens", "5", "--", *LANGUAGE_MODEL, data=data)
        assert list(model["stacks"]) == ["decoder"]
        assert [len(layer["positions"]) for layer in model["stacks"]["decoder"]["layers"]] == [5, 5]
        # One block has more tokens than were asked for.
        assert model["tokens"] == 16

    def test_all_schemes_that_suit_the_flags_are_analyzed(self, runs, analyze, monkeypatch, capsys):
        """Each new model has the same seed, and those left out are named."""
        assert subjects.schemes("all") == list(SCHEMES)
        some = {name: SCHEMES[name] for name in ("post_ln", "mix_ln", "b2t")}
        monkeypatch.setattr(subjects, "SCHEMES", some)
        models = analyze("--residual", "all", *FRESH, "--encoder-layers", "2")
        assert [model["name"] for model in models] == ["Post-LN", "B2T"]
        assert "left out: --encoder-layers 2: --residual mix_ln" in capsys.readouterr().out
        assert analyze("--residual", "b2t", *FRESH, "--encoder-layers", "2")[0] == models[1]
        assert analyze(*FRESH, "--encoder-layers", "2")[0] == models[1]


class TestSentences:
    def test_all_models_read_the_same_sentences(self, runs):
        data, read = str(runs / "bin"), []
        models = [subjects.trained(name, runs / name / "checkpoint_last.pt", data) for name in ("plain", "admin")]
        models.append(subjects.fresh(data, [*MODEL_FLAGS, "--decoder-layers", "7"], "post_ln"))
        for subject in models:
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
        """They are read by whole batches, at least one, which has room for the longest sentence, of 8 tokens."""
        (model,) = analyze(runs / "plain", "--tokens", asked)
        assert least <= model["tokens"] <= most

    def test_the_title_says_if_models_read_other_sentences(self, analyze, runs, capsys):
        short = ["--max-source-positions", "5", "--max-target-positions", "5"]
        read = [model["tokens"] for model in analyze(runs / "plain", *FRESH, *short)]
        assert read[1] < read[0]
        assert f"Layers on {read[0]} or {read[1]} target tokens of valid\n" in capsys.readouterr().out


class TestAdmin:
    @pytest.fixture
    def omegas(self, monkeypatch):
        """Collect the omegas of each model that is measured."""
        seen, measure = [], measuring.analyze

        def keep(subject, batches):
            assert admin_profile.is_profiled(subject.model)
            schemes = [layer.residual for stack in layer_stacks(subject.model) for layer in stack.layer_list()]
            seen.append(torch.cat([scheme.omega.detach().clone() for scheme in schemes]))
            return measure(subject, batches)

        monkeypatch.setattr(measuring, "analyze", keep)
        return seen

    def test_a_new_model_is_profiled_first(self, runs, analyze, omegas):
        analyze("--residual", "admin", *FRESH)
        data = str(runs / "bin")
        expected = subjects.fresh(data, MODEL_FLAGS, "admin")
        batch = next(iter(subjects.batches(expected, "valid", 4000, "cpu")))
        admin_profile.measure(expected.model.train(), batch["net_input"])
        layers = [layer for stack in layer_stacks(expected.model) for layer in stack.layer_list()]
        assert torch.equal(omegas[0], torch.cat([layer.residual.omega for layer in layers]))
        assert (omegas[0][1:8].diff(dim=0) > 0).all()

    def test_a_new_model_with_a_profile_takes_its_omegas(self, analyze, omegas, tmp_path):
        values = [*(1 + number / 8 for number in range(8)), *(1 + number / 4 for number in range(12))]
        numbered = zip([*range(1, 9), *range(1, 13)], values, strict=True)
        (tmp_path / "profile").write_text("".join(f"{number} {value}\n" for number, value in numbered))
        analyze(*FRESH, "--residual", "admin", "--admin-profile", tmp_path / "profile")
        assert omegas[0][:, 0].tolist() == values

    def test_a_trained_model_keeps_its_omegas(self, runs, analyze, omegas):
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
def test_errors_are_found_before_anything_is_measured(runs, tmp_path, monkeypatch, capsys, line, message):
    """Nothing is written then."""
    monkeypatch.setattr(measuring, "analyze", lambda *_: pytest.fail("measured"))
    monkeypatch.chdir(tmp_path)
    words = [MODEL_FLAGS if word == "FRESH" else [word.replace("RUNS", str(runs))] for word in line.split()]
    flags = [flag for group in words for flag in group]
    # A second --data overrides the first.
    assert main(["analyze", "--data", str(runs / "bin"), *flags]) == 1
    captured = capsys.readouterr()
    assert message.replace("RUNS", str(runs)) in captured.err
    assert captured.err.startswith("b2t analyze: error: ")
    assert not list(tmp_path.iterdir())
