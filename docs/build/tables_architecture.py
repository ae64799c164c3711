"""The generated tables of docs/changes_of_fairseq.md and docs/architecture.md: the patches, and the files of a run."""

from __future__ import annotations

from b2t_cli.tables import markdown_table
from b2t_common import run_folder
from b2t_fairseq.upstream.patches import PATCHES


def patches_tables() -> str:
    """Return everything that this plugin changes, and why: a table for each time at which it is changed."""
    parts = []
    for when in dict.fromkeys(patch.when for patch in PATCHES):
        rows = [[f"`{patch.target}`", patch.why] for patch in PATCHES if patch.when == when]
        parts += [f"{when[0].upper()}{when[1:]}:", markdown_table(["what is changed", "why"], rows, "ll")]
    return "\n\n".join(parts)


def run_folder_table() -> str:
    """Return the files of a run with what they hold and which command writes them."""
    train, evaluate = "`scripts/train.sh`", "`scripts/evaluate.sh`"
    newest, german = "newstest2014", "de"
    files = [
        (run_folder.LOG, "everything that the training logged", train),
        (run_folder.SETTINGS, "the configuration; a run with other settings is refused", train),
        (run_folder.DATA, "the folder with the data", train),
        (run_folder.CHOSEN, "precision and `--max-tokens` of a run on GPUs, which it keeps", train),
        (run_folder.LAST_CHECKPOINT, "the checkpoint from which the run continues", "fairseq"),
        (run_folder.BEST_CHECKPOINT, "that with the lowest validation loss", "fairseq"),
        ("checkpoint7.pt", "that after epoch 7", "fairseq"),
        ("checkpoint_3_1500.pt", "that after 1,500 updates, in epoch 3", "fairseq"),
        (run_folder.GROWN, "a deeper model that starts from this one", "`b2t grow`"),
        ("tensorboard/", "curves for TensorBoard", train),
        (run_folder.WANDB_ID, "the identifier of the run in Weights & Biases", "`b2t train`"),
        (run_folder.AVERAGED, "the average of the last checkpoints", f"{evaluate}, `b2t average`"),
        (f"{run_folder.REFERENCES}/", "the test sets, if they came with the data", evaluate),
        (run_folder.generated(newest), "what `fairseq-generate` printed", f"{evaluate}, `b2t generate`"),
        (run_folder.translations(newest, german), "the translations, one a line", f"{evaluate}, `b2t score`"),
        (f"{run_folder.SCORES}.json", "scores; `.md` and `.tex` are the same as tables", f"{evaluate}, `b2t score`"),
        (f"{run_folder.COMPARISON}.json", "comparison with other runs, likewise", "`b2t score`"),
    ]
    rows = [[f"`{name}`", content, writer] for name, content, writer in files]
    return markdown_table(["file", "content", "written by"], rows, "lll")
