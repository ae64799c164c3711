"""The README is short, its example of a scheme works, and its commands by hand are those of the quickstart."""

import re
import subprocess

import pytest
import torch
from documentation import PAGES, fenced_commands, fences
from fairseq import options
from helpers import ROOT, make_batch, make_model, randomize, step_by_step_logits

from b2t_fairseq import residual, sharing

README = PAGES["README.md"]
METHODS = PAGES["docs/methods.md"]


def python_block(text: str, content: str) -> str:
    """Return the page's Python block that contains ``content``."""
    (code,) = [block for language, block in fences(text) if language == "python" and content in block]
    return code


def test_the_readme_is_short():
    assert README.count("\n") <= 200
    assert len(README.encode()) <= 12_000


def test_the_extras_by_hand_are_those_of_the_setup():
    """A name with an underscore is another one for older versions of pip."""
    (by_hand,) = re.findall(r"pip install -e '\.\[(.*)\]'", README)
    (of_setup,) = re.findall(r"^extras=\((.*)\)$", (ROOT / "scripts/setup.sh").read_text(), flags=re.MULTILINE)
    assert {"fairseq", *by_hand.split(",")} == set(of_setup.split())


def test_the_tree_shows_what_there_is():
    (tree,) = [block for language, block in fences(README) if not language and block.startswith("b2t_fairseq/")]
    folder = ROOT
    shown = set()
    for line in tree.splitlines():
        indented, name = re.match(r"( *)(\S+)", line).groups()
        folder = folder if indented else ROOT
        assert (folder / name).exists(), line
        if not indented:
            folder = ROOT / name
            shown.add(name.rstrip("/"))
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in listed.splitlines() if "/" in line}
    assert {name for name in folders if not name.startswith(".")} == shown


# Where files lie and what is logged changes no result.
DIFFERENT = {"data", "save_dir", "path", "user_dir", "log_format", "log_interval", "no_progress_bar"}


class TestCommandsByHand:
    """The quickstart's score stands above them, so they must do the same."""

    def statement(self, beginning: str) -> list[str]:
        """Return the words of the quickstart's command that begins so, with the values of its configuration."""
        script = (ROOT / "scripts/quickstart.sh").read_text(encoding="utf-8").replace("\\\n", " ")
        (words,) = re.findall(rf"{re.escape(beginning)} (.*?)(?: 2?>|$)", script, flags=re.MULTILINE)
        shell = f'set -eu; . configs/quickstart/grammar.sh; work=W plugin=P; printf "%s\\0" {words}'
        printed = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return printed.split("\0")[:-1]

    def by_hand(self, *beginning: str) -> list[str]:
        (words,) = [w for w in fenced_commands(README) if tuple(w[: len(beginning)]) == beginning]
        return words[len(beginning) :]

    def settings(self, parser, words: list[str]) -> dict:
        words = [str(ROOT / "b2t_fairseq") if word == "P" else word for word in words]
        return {k: v for k, v in vars(options.parse_args_and_arch(parser, words)).items() if k not in DIFFERENT}

    def test_training(self):
        """The flags of ``b2t train`` give the settings of the quickstart."""
        ours, theirs = self.by_hand("b2t", "train"), self.statement('b2t train "$work/data"')
        parsed = [self.settings(options.get_training_parser(), words) for words in (ours, ["data", *theirs])]
        assert parsed[0] == parsed[1]
        assert parsed[0]["residual"] == "b2t"

    def test_averaging(self):
        """The flags of ``b2t average`` are those of the quickstart."""
        theirs = self.statement('stage "$work" average b2t average')
        ours = self.by_hand("b2t", "average")
        flags = [word for word in theirs if word not in ("W/run", "--output", "W/averaged.pt")]
        assert [word for word in ours if word not in ("by_hand", "--output", "by_hand/averaged.pt")] == flags

    def test_translation(self):
        """The flags of fairseq-generate give the settings of the quickstart."""
        ours, theirs = self.by_hand("fairseq-generate"), self.statement('fairseq-generate "$work/data"')
        parsed = [self.settings(options.get_generation_parser(), words) for words in (ours, ["data", *theirs])]
        assert parsed[0] == parsed[1]


@pytest.mark.parametrize("words", [w for w in fenced_commands(PAGES["docs/runs.md"]) if w[0] == "fairseq-train"])
def test_the_deep_examples_are_models_of_18_layers(words):
    args = options.parse_args_and_arch(options.get_training_parser(), words[1:])
    assert args.encoder_layers == args.decoder_layers == 18
    names = ("residual", "layer_sharing", "encoder_unique_layers", "decoder_unique_layers")
    given = {name: getattr(args, name) for name in names if hasattr(args, name)}
    make_model(**given, encoder_layers=18, decoder_layers=18)


@pytest.mark.parametrize("page", ["README.md", "docs/speed.md"])
def test_examples_of_b2t_train_have_the_fused_criterion_and_optimizer(page):
    (words,) = [w[2:] for w in fenced_commands(PAGES[page]) if w[:2] == ["b2t", "train"]]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    assert (args.criterion, args.optimizer) == ("label_smoothed_cross_entropy_fused", "adam_fused")


def test_the_example_scheme_works(monkeypatch):
    """One class in the registry is all that a scheme takes: it is built, trained and decoded step by step."""
    code = python_block(README, "class ResPostNorm")
    namespace = {"ResidualScheme": residual.ResidualScheme}
    exec(code, namespace)
    scheme = namespace["ResPostNorm"]
    monkeypatch.setitem(residual.SCHEMES, scheme.name, scheme)
    model = randomize(make_model(residual="res_post_norm"))
    other = randomize(make_model(residual="pre_ln"))
    batch = make_batch()
    model(**batch["net_input"])[0].sum().backward()
    model.eval(), other.eval()
    with torch.no_grad():
        full, steps = model(**batch["net_input"])[0], step_by_step_logits(model, batch)
        assert (full - other(**batch["net_input"])[0]).abs().max() > 0.01
    assert (full - steps)[batch["target"] != 1].abs().max() < 1e-4
    assert [layer.residual.position.index for layer in model.decoder.layers] == list(range(6))


def test_the_example_strategy_works(monkeypatch):
    """One function in the registry is all that a strategy takes."""
    namespace = {}
    exec(python_block(METHODS, "def zigzag"), namespace)
    monkeypatch.setitem(sharing.STRATEGIES, "zigzag", namespace["zigzag"])
    assert sharing.layer_indices("zigzag", 9, 3) == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    for n in range(1, 13):
        for m in (m for m in range(1, n + 1) if n % m == 0):
            assert list(dict.fromkeys(sharing.layer_indices("zigzag", n, m))) == list(range(m))
    model = make_model(layer_sharing="zigzag", encoder_unique_layers=3, decoder_unique_layers=3)
    assert model.encoder.layers[1].fc1.weight is model.encoder.layers[4].fc1.weight
    assert model.encoder.layers[0].fc1.weight is not model.encoder.layers[1].fc1.weight
