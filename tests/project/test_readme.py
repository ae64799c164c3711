"""The README is true: generated parts are up to date, flags exist, examples parse or run, links lead somewhere."""

import importlib.util
import itertools
import re
import shlex
import subprocess

import pytest
import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from helpers import ROOT, make_batch, make_model, randomize, step_by_step_logits

from b2t_cli import COMMANDS
from b2t_fairseq import residual, sharing

README = (ROOT / "README.md").read_text()
SPEED = (ROOT / "docs/speed.md").read_text()


def blocks(text):
    return re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)


BLOCKS = blocks(README)


def commands(text=README):
    """Return every command of a page's bash blocks, continuation lines joined, comments dropped."""
    for language, block in blocks(text):
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    yield words


def test_generated_parts_are_up_to_date():
    spec = importlib.util.spec_from_file_location("write_tables", ROOT / "docs/build/write_tables.py")
    write_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(write_tables)
    assert list(write_tables.FILES) == ["README.md", "docs/reproduction.md", "docs/speed.md", "docs/results.md"]
    for name in write_tables.FILES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert write_tables.rewrite(name, text) == text, f"{name}: run python docs/build/write_tables.py"


def train_commands():
    return [words for words in commands() if words[0] == "fairseq-train"]


@pytest.mark.parametrize("words", train_commands(), ids=lambda words: words[words.index("--residual") + 1])
def test_training_examples_parse(words):
    words = [str(ROOT / "b2t_fairseq") if word == "$(b2t path)" else word for word in words[1:]]
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    model = convert_namespace_to_omegaconf(args).model
    assert model.encoder_layers == model.decoder_layers == 18
    flags = {key: model[key] for key in model if key.startswith(("residual", "layer_sharing")) or "unique" in key}
    make_model(**flags, encoder_layers=18, decoder_layers=18)


def test_there_are_training_examples():
    assert len(train_commands()) == 2


def test_commands_exist():
    """Scripts lie where the README says, b2t has the subcommands, options of ours are in the help texts."""
    seen = set()
    for words in commands():
        if words[0] == "bash":
            usage = (ROOT / words[1]).read_text()
            assert all(word in usage for word in words[2:] if word.startswith("--")), words
        elif words[0] == "b2t" and words[1] != "train":
            assert words[1] in COMMANDS
            source = (ROOT / f"b2t_fairseq/cli/{words[1]}.py").read_text()
            # after -- come fairseq's
            ours = itertools.takewhile(lambda word: word != "--", words[2:])
            assert all(f'"{word}"' in source for word in ours if word.startswith("--")), words
        seen.add(words[0])
    assert {"bash", "b2t", "pip", "env", "fairseq-train", "fairseq-generate", "fairseq-hydra-train"} <= seen


@pytest.mark.parametrize("text", [README, SPEED], ids=["README", "speed"])
def test_examples_of_b2t_train_parse(text):
    examples = [words[2:] for words in commands(text) if words[:2] == ["b2t", "train"]]
    assert examples
    for words in examples:
        cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
        assert (cfg.criterion._name, cfg.optimizer._name) == ("label_smoothed_cross_entropy_fused", "adam_fused")


def test_benchmarks_of_the_page_on_speed_exist():
    """Each script, each of its options, and what is said of them."""
    seen = 0
    for line in re.findall(r"python (benchmarks/.*)", SPEED):
        script, *words = line.split("`")[0].split()
        source = (ROOT / script).read_text()
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), line
        seen += 1
    assert seen > 10
    for target in re.findall(r"\]\(#([^)]+)\)", SPEED):
        titles = re.findall(r"^#+ (.+)$", SPEED, flags=re.MULTILINE)
        assert target in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_paths_in_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", README):
        titles = re.findall(r"^#+ (.+)$", README, flags=re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_example_scheme_works(monkeypatch):
    """One class in the registry is all that a scheme takes: built, trained and decoded step by step."""
    code = next(block for language, block in BLOCKS if language == "python" and "class ResPostNorm" in block)
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
    code = next(block for language, block in BLOCKS if language == "python" and "def zigzag" in block)
    namespace = {}
    exec(code, namespace)
    monkeypatch.setitem(sharing.STRATEGIES, "zigzag", namespace["zigzag"])
    assert sharing.layer_indices("zigzag", 9, 3) == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    for n in range(1, 13):
        for m in (m for m in range(1, n + 1) if n % m == 0):
            assert list(dict.fromkeys(sharing.layer_indices("zigzag", n, m))) == list(range(m))
    model = make_model(layer_sharing="zigzag", encoder_unique_layers=3, decoder_unique_layers=3)
    assert model.encoder.layers[1].fc1.weight is model.encoder.layers[4].fc1.weight
    assert model.encoder.layers[0].fc1.weight is not model.encoder.layers[1].fc1.weight


def test_no_module_but_residual_names_a_scheme():
    """One place for each scheme and each strategy."""
    for path in (ROOT / "b2t_fairseq").rglob("*.py"):
        if path.name != "sharing.py" and path.parent.name != "residual":
            code = re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.DOTALL)
            for name in [*residual.SCHEMES, "sequence", "cycle", "cycle_rev"]:
                assert f'"{name}"' not in code, (path.name, name)


def test_everything_is_executable_or_explains_itself():
    for path in sorted((ROOT / "scripts").glob("*.sh")):
        result = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
