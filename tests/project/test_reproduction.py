"""docs/reproduction.md is true: every configuration is there, commands and links exist, checkpoints have that size."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from fairseq import options
from helpers import ROOT
from torch.distributed.run import get_args_parser as torchrun_parser
from training import SHARED, binarize, train, write_corpus

from b2t_cli import COMMANDS
from b2t_cli.train import main as b2t_train

sys.path.insert(0, str(ROOT / "docs"))
import tables_reproduction

PAGE = (ROOT / "docs/reproduction.md").read_text(encoding="utf-8")
CONFIGS = sorted(path.stem for path in ROOT.glob("configs/wmt14_en_de/*.sh") if not path.name.startswith("_"))


def part(name):
    """Return a generated part."""
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", PAGE, flags=re.DOTALL)[1]


def rows(name):
    """Return the cells of a generated table by configuration."""
    cells = [re.split(r" *\| *", line)[1:-1] for line in part(name).splitlines() if line.startswith("| [")]
    return {re.match(r"\[(\w+)\]", row[0])[1]: row for row in cells}


def commands():
    """Return every command of the page: bash blocks, continuation lines joined, and commands in the text."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL) + re.findall(r"`(bash [^`]+)`", PAGE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def fairseq_flags():
    return set(options.get_training_parser()._option_string_actions)


def check(words):
    """Check that a command's files are there and that it knows its options."""
    for word in words:
        if word.startswith(("configs/", "scripts/")):
            assert (ROOT / word).is_file(), words
    flags = {word for word in words[1:] if word.startswith("--")}
    if words[0] == "bash":
        usage = (ROOT / words[1]).read_text(encoding="utf-8")
        # train.sh hands on what it does not know itself
        known = fairseq_flags() if words[1] == "scripts/train.sh" else set()
        assert all(flag in usage or flag in known for flag in flags), words
    elif words[0] == "sbatch":
        script = next(word for word in words if word.endswith(".sbatch"))
        text = (ROOT / script).read_text(encoding="utf-8")
        assert all(flag in text for flag in flags), words
        assert "bash scripts/train.sh" in text
    elif words[0] == "srun":
        check(words[words.index("bash") :])
    elif words[0] == "torchrun":
        args = torchrun_parser().parse_args(words[1:])
        assert args.no_python
        check([args.training_script, *args.training_script_args])
    elif words[0] == "b2t":
        source = (ROOT / f"b2t_fairseq/cli/{words[1]}.py").read_text(encoding="utf-8")
        assert words[1] in COMMANDS
        assert all(f'"{flag}"' in source for flag in flags), words
    else:
        assert words == ["source", ".venv/bin/activate"]


def test_commands_exist():
    seen = set()
    for words in commands():
        check(words)
        seen.add(Path(words[1]).name if words[0] == "bash" else words[0])
    scripts = {"setup.sh", "prepare_wmt14_en_de.sh", "train.sh", "evaluate.sh", "sweep.sh"}
    assert seen == scripts | {"source", "sbatch", "srun", "torchrun", "b2t"}


def test_options_in_the_text_exist():
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    known = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("scripts/*.sh"))
    for option in set(re.findall(r"`(--[\w-]+)", prose)):
        assert option in known or option in fairseq_flags(), option


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        if target.startswith("#"):
            titles = re.findall(r"^#+ (.+)$", PAGE, flags=re.MULTILINE)
            assert target[1:] in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
        elif not target.startswith("http"):
            assert (ROOT / "docs" / target).is_file(), target


def test_every_configuration_is_in_the_tables():
    assert CONFIGS
    assert sorted(rows("configurations")) == sorted(rows("cost")) == CONFIGS
    for name, row in rows("configurations").items():
        assert row[3] == f"`bash scripts/train.sh configs/wmt14_en_de/{name}.sh`"


@pytest.mark.parametrize("name", CONFIGS)
def test_published_result_is_what_the_configuration_says(name):
    """The comment at a configuration's head and published.json were written apart from each other."""
    comment = (ROOT / f"configs/wmt14_en_de/{name}.sh").read_text(encoding="utf-8")
    stated = re.search(r"Published average: ([\d.]+\d)", comment)
    shown = rows("configurations")[name][-1]
    if stated:
        assert shown == stated[1] == rows("published")[name][-2]
    else:
        expected = {"post_ln_18l": "fails to train", "b2t_100l": "-"}
        assert shown == expected.get(name, "not tried by the papers")


def test_measured_parts_are_the_files_of_the_measurements():
    for name, file in (("scale", "benchmarks/results/prepare_at_scale.md"), ("small run", "docs/results/mix.md")):
        assert part(name) == (ROOT / file).read_text(encoding="utf-8").strip()


def test_size_of_a_checkpoint(tmp_path):
    """Of a model with shared layers, trained in half precision: weights and moments once for each parameter."""
    write_corpus(tmp_path)
    flags = ("--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "512", "--max-update", "1", "--bf16")
    state = train(binarize(tmp_path), tmp_path / "run", *SHARED, *flags, command=b2t_train)
    moments = state["last_optimizer_state"]["state"].values()
    parameters = sum(moment["exp_avg"].numel() for moment in moments)
    assert all(tensor.dtype == torch.float32 for tensor in state["model"].values())
    expected = tables_reproduction.checkpoint_bytes(parameters)
    # beside the tensors there are settings, names and the state of the data
    rest = (tmp_path / "run/checkpoint_last.pt").stat().st_size - expected
    assert 0 < rest < 200_000
    assert expected > 2_500_000
