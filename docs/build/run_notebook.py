"""Run docs/quickstart.ipynb on the CPU and write what its cells print and draw into it: half an hour on two cores.

python -m docs.build.run_notebook           run all cells, write the notebook
python -m docs.build.run_notebook --check   exit with 1 if the outputs are of other cells or of another CONFIG

It needs the extra ``notebook``. Without a GPU the models learn from the project's own grammar, so no text of a corpus
with a licence of its own comes into the file.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from b2t_common.files import write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOK = ROOT / "docs/quickstart.ipynb"
CONFIG, WORK = ROOT / "configs/notebook/grammar.sh", ROOT / "runs/notebook-grammar"
PARAMETERS = "parameters"
"""The tag of the cell with the settings, a name that other tools for notebooks know too."""


def read(path: Path = NOTEBOOK) -> dict[str, Any]:
    """Return a notebook as the dictionary that its file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def text_of(notebook: Any) -> str:
    """Return the content of a notebook's file, as Jupyter writes it."""
    import nbformat

    return nbformat.writes(nbformat.from_dict(notebook)) + "\n"


def code_of(notebook: Mapping[str, Any]) -> list[str]:
    """Return the text of each code cell."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def fingerprint(notebook: Mapping[str, Any]) -> str:
    """Return a checksum of what the outputs follow from: the code cells, and the flags of the models."""
    text = "\0".join([*code_of(notebook), CONFIG.read_text(encoding="utf-8")])
    return hashlib.sha256(text.encode()).hexdigest()


def run(settings: Mapping[str, str], timeout: int = 600) -> dict[str, Any]:
    """Run all cells in a process of their own that sees no GPU, and return the notebook with the outputs.

    Args:
        settings: values for names of the cell with the tag ``parameters``, set after it.
        timeout: seconds that no cell may exceed.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message has its traceback.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    given = copy.deepcopy(notebook)
    (cell,) = [each for each in notebook.cells if PARAMETERS in each.metadata.get("tags", [])]
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in settings.items())
    client = NotebookClient(notebook, timeout=timeout, record_timing=False, coalesce_streams=True)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    client.execute(cwd=str(NOTEBOOK.parent), env=environment)
    for before, after in zip(given.cells, notebook.cells, strict=True):
        if before.cell_type == "code":
            before.outputs, before.execution_count = after.outputs, after.execution_count
    given.metadata["outputs_of"] = fingerprint(given)
    return without_machine(given)


def without_machine(notebook: Any) -> dict[str, Any]:
    """Return a notebook without what its outputs say of this machine: names of folders, and warnings of libraries."""
    folders = {str(ROOT): "b2t_fairseq", sys.prefix: "ENVIRONMENT", str(Path.home()): "HOME"}
    for cell in notebook["cells"]:
        text = json.dumps([output for output in cell.get("outputs", []) if output.get("name") != "stderr"])
        for folder, name in folders.items():
            text = text.replace(folder, name)
        if "outputs" in cell:
            cell["outputs"] = json.loads(text)
    return notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the notebook and write it, or check that its outputs belong to its cells; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run nothing; fail if the outputs are of other cells")
    if parser.parse_args(arguments).check:
        notebook = read()
        if notebook["metadata"].get("outputs_of") == fingerprint(notebook):
            return 0
        print(f"{NOTEBOOK}: the outputs are of other cells; run python -m docs.build.run_notebook", file=sys.stderr)
        return 1
    if WORK.exists():
        print(f"{WORK} has results of an earlier run, which would not be run again; delete it", file=sys.stderr)
        return 1
    write_whole({NOTEBOOK: text_of(run({}, timeout=7200)).encode()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
