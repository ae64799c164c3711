"""Count the bytes that a model keeps of each token for its backward pass: what the largest batch of a GPU follows from.

    python -m benchmarks.activation_memory                      add what is missing in the table for scripts/train.sh
    python -m benchmarks.activation_memory --all                count the whole table again
    python -m benchmarks.activation_memory --print CONFIG...    print the lines of some configurations

The table, scripts/batch_memory.tsv, has a line for each different model of the configurations in configs/.  A model of
its full depth and width goes forward once in training, in bfloat16 and on the CPU.  Every tensor that autograd keeps
for the backward pass is counted once; the parameters are not counted.  Two batches of different sizes give the bytes of
one token, without what a model keeps however large the batch is.  A GPU keeps no more, as long as PyTorch has a fused
attention for it: for dropout it keeps one byte for each number, where the CPU keeps two, and --compile computes some
tensors again.  The part memory of benchmarks/gpu.sh compares the count with a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from fairseq import options
from fairseq.criterions import build_criterion
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import ARCH_MODEL_REGISTRY
from torch import Tensor, nn

from b2t_common.files import write_whole
from b2t_fairseq.building import build_without_data
from benchmarks import trainers
from benchmarks.measuring import parameter_count
from scripts.batch_size import TABLE, Row, read_table

ROOT = Path(__file__).resolve().parent.parent

# As scripts/train.sh has them: what a configuration is made of, each flag on a line of its own.
_READ = '. "$1"; printf "%s\\n" "${model[*]}"; printf "%s\\n" "${model[@]}" "${training[@]}"'

# Sentences of WMT have 27 subwords in the mean; in LibriSpeech 25 frames belong to one symbol of the text.
LENGTH = 32
FRAMES, SYMBOLS, MELS = 400, 16, 80
VOCABULARY = {"language_modeling": 267_744, "translation": 32_768, "speech_to_text": 10_000}
SENTENCES = (2, 4)  # of the two batches

_HEADER = """\
# What scripts/train.sh chooses --max-tokens by on a GPU. Counted by: python -m benchmarks.activation_memory
# flags of the model, parameters, bytes that one token keeps for the backward pass, bytes of its widest tensor
"""


def configurations() -> list[Path]:
    """Return all configurations of the project."""
    return sorted(path for path in ROOT.glob("configs/*/*.sh") if not path.name.startswith("_"))


def read_configuration(path: Path) -> tuple[str, list[str]]:
    """Return a configuration's flags of the model as one text, and all its flags."""
    command = ["bash", "-euc", _READ, "bash", str(path)]
    model, *flags = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return model, flags


def count(flags: list[str]) -> Row:
    """Return what a model needs, from all flags of its training."""
    args = options.parse_args_and_arch(options.get_training_parser(), ["data", *flags])
    cfg = convert_namespace_to_omegaconf(args)
    if cfg.task._name == "speech_to_text":
        args.input_feat_per_channel, args.input_channels = MELS, 1
    with torch.device("meta"):
        size, model_class = VOCABULARY[cfg.task._name], ARCH_MODEL_REGISTRY[args.arch]
        built = build_without_data(vars(args), size, model_class=model_class)
        # a criterion needs to know the symbol of padding only
        criterion = build_criterion(cfg.criterion, SimpleNamespace(target_dictionary=built.decoder.dictionary))
    parameters = parameter_count(built)
    # numbers do not matter, so no time is spent on initial weights; the copy has no tied parameters
    model = built.bfloat16().to_empty(device="cpu").train()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.zero_()
    small, large = (saved_bytes(model, criterion, batch(cfg.task._name, size)) for size in SENTENCES)
    tokens = FRAMES if cfg.task._name == "speech_to_text" else LENGTH
    token_bytes = (large - small) // ((SENTENCES[1] - SENTENCES[0]) * tokens)
    widths = [tensor.size(0) for name, tensor in model.named_parameters() if name.endswith("fc1.weight")]
    return Row(parameters, token_bytes, 2 * max(widths))


def batch(task: str, sentences: int) -> dict:
    """Return a batch of a task, of sentences or utterances of one length, the first one padded at its end."""
    target_length = SYMBOLS if task == "speech_to_text" else LENGTH
    target = torch.full((sentences, target_length), 5)
    target[0, -1] = 1
    shape = (sentences, FRAMES, MELS) if task == "speech_to_text" else (sentences, LENGTH)
    source = torch.ones(shape, dtype=torch.bfloat16) if task == "speech_to_text" else target.clone()
    net_input = {"src_tokens": source, "src_lengths": torch.full((sentences,), shape[1])}
    if task != "language_modeling":
        net_input["prev_output_tokens"] = target
    return {"net_input": net_input, "target": target, "ntokens": target.numel(), "nsentences": sentences}


def saved_bytes(model: nn.Module, criterion: nn.Module, sample: Mapping) -> int:
    """Return the bytes of all tensors that autograd keeps after a forward pass, without the model's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> None:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            # held until the end, so that no address stands for two tensors; detached, as the graph must be freed then
            kept[address] = tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
        criterion(model, sample)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="count also the models that are in the table")
    parser.add_argument("--print", metavar="CONFIG", type=Path, nargs="+", help="print lines, and write nothing")
    args = parser.parse_args()
    models = dict(read_configuration(path) for path in args.print or configurations())
    known = {} if args.all or args.print else read_table(TABLE)
    lines = []
    with trainers.quiet():
        for model, flags in models.items():
            lines.append(known[model].line(model) if model in known else count(flags).line(model))
    if args.print:
        print("".join(lines), end="")
    else:
        write_whole({TABLE: (_HEADER + "".join(lines)).encode()})


if __name__ == "__main__":
    main()
