"""The files in a run's folder: the one place in Python where their names stand.

A run's folder is the ``--save-dir`` of a training.  ``b2t_cli.runs`` reads what is in it.  Shell scripts use these
names too: ``scripts/train.sh`` (LOG, SETTINGS, DATA, CHOSEN, LOCK, CHECKPOINTS), ``scripts/evaluate.sh`` (SETTINGS,
DATA, LAST_CHECKPOINT and everything in EVALUATION), ``scripts/sweep.sh`` (LOG), ``scripts/quickstart.sh`` and
``claims/run.sh`` (LOG, LAST_CHECKPOINT, SENTENCEPIECE).
"""

from __future__ import annotations

# what scripts/train.sh writes before the training
LOG = "train.log"
SETTINGS = "settings.sh"
DATA = "data.txt"
CHOSEN = "chosen.txt"

# what b2t train writes
LOCK = ".lock"

# what b2t train writes with --wandb-project: by which name Weights & Biases knows the run
WANDB_ID = "wandb_id.txt"

# what fairseq writes
LAST_CHECKPOINT = "checkpoint_last.pt"
BEST_CHECKPOINT = "checkpoint_best.pt"
CHECKPOINTS = "checkpoint*.pt"
"""Pattern of all of them, for ``glob``."""
UNFINISHED_CHECKPOINTS = "checkpoint*.pt.tmp*"
"""Pattern of the files that a killed process has left; each is as large as a checkpoint."""
NUMBERED_CHECKPOINTS = {"epochs": r"checkpoint(\d+)\.pt", "updates": r"checkpoint_\d+_(\d+)\.pt"}
"""Regular expressions of those that fairseq keeps by epoch and by number of updates; the group is the number."""
KEPT_BEST = r"checkpoint\.best_.+_[-\d.]+\.pt"
"""Regular expression of those that ``--keep-best-checkpoints`` keeps."""
WRITTEN_IN_TRAINING = "|".join((LAST_CHECKPOINT, BEST_CHECKPOINT, *NUMBERED_CHECKPOINTS.values(), KEPT_BEST))
"""Regular expression of all of them; ``checkpoint_average.pt`` is one that somebody else may have written."""

# what b2t grow writes
GROWN = "grown.pt"

# what scripts/evaluate.sh, b2t average, b2t generate and b2t score write
EVALUATION = "evaluation"
AVERAGE = "averaged.pt"
"""The average of checkpoints, as ``b2t average`` and scripts/quickstart.sh call it."""
AVERAGED = f"{EVALUATION}/{AVERAGE}"
REFERENCES = f"{EVALUATION}/references"
"""The test sets of the data, if they came with it: about.json, NAME.LANGUAGE and NAME.tokens.LANGUAGE."""
SCORES = f"{EVALUATION}/scores"
"""Without its ending: .json, .md or .tex."""
COMPARISON = f"{EVALUATION}/comparison"
"""Without its ending, likewise."""

# what lies beside a model that is meant for translating
SENTENCEPIECE = "spm.model"
BPE_CODES = "bpe.codes"
DICTIONARIES = "dict.*.txt"
"""Pattern, for ``glob``."""
BEST_FIRST = (AVERAGED, AVERAGE, "model.pt", BEST_CHECKPOINT, LAST_CHECKPOINT)
"""Where a model to translate with may lie, best first: scripts/evaluate.sh and b2t average write the first two,
archives usually have the third, training leaves the others."""


def generated(test_set: str) -> str:
    """Return the name of what ``fairseq-generate`` printed for a test set, such as newstest2014."""
    return f"{EVALUATION}/{test_set}.generated.txt"


def translations(test_set: str, language: str) -> str:
    """Return the name of the translations of a test set, one a line."""
    return f"{EVALUATION}/{test_set}.{language}"
