"""The notebook for the browser: its cells are commands that work, its outputs are of these cells, all of it runs."""

import base64
import json
import re
import shutil
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from documentation import fenced_commands, fences, page_of_notebook
from helpers import ROOT
from parsers import check

from docs.build import run_notebook

CORPORA = {"grammar": "test", "multi30k": "test_2016_flickr"}
NOTEBOOK = run_notebook.read()
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def page_for(corpus: str) -> str:
    """Return the notebook as a page, as it is with a corpus."""
    variables = {"CORPUS": corpus, "TEST": CORPORA[corpus], "UPDATES": "500"}
    variables |= {"CONFIG": f"configs/notebook/{corpus}.sh", "WORK": f"runs/notebook-{corpus}"}
    return page_of_notebook(variables)


def outputs() -> str:
    """Return all text that the notebook shows as printed, without pictures."""
    lines = [line for cell in CODE for output in cell["outputs"] for line in output.get("text", [])]
    lines += [output["data"]["text/plain"][0] for cell in CODE for output in cell["outputs"] if "data" in output]
    return "\n".join(lines)


class TestCells:
    @pytest.mark.parametrize("corpus", CORPORA)
    def test_every_command_is_accepted_by_its_own_parser(self, corpus):
        commands = fenced_commands(page_for(corpus))
        assert len(commands) == 7
        for words in commands:
            check(words)

    def test_python_cells_are_python(self):
        blocks = [code for language, code in fences(page_for("grammar")) if language == "python"]
        assert len(blocks) == len([cell for cell in CODE if not cell["source"][0].startswith("%%")]) > 0
        for code in blocks:
            compile(code, "<cell>", "exec")

    def test_a_command_that_fails_ends_its_cell(self):
        shells = [cell["source"][0].strip() for cell in CODE if cell["source"][0].startswith("%%")]
        assert set(shells) == {"%%bash -e", "%%bash -e -o pipefail"}
        piped = [cell for cell in CODE if cell["source"][0].startswith("%%") and "| python" in "".join(cell["source"])]
        assert [cell["source"][0].strip() for cell in piped] == ["%%bash -e -o pipefail"]

    def test_the_first_cell_finds_the_project(self, monkeypatch, tmp_path):
        """Or copies it where the notebook was opened alone; the commands that follow are those of its own Python."""
        first = "".join(CODE[0]["source"])
        for name in ("VIRTUAL_ENV", "PATH"):
            monkeypatch.setenv(name, "/elsewhere")
        for folder in (ROOT / "docs", ROOT):
            monkeypatch.chdir(folder)
            exec(first, {})
            assert Path.cwd() == ROOT
            assert shutil.which("python") == str(Path(sys.prefix, "bin/python"))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(RuntimeError, match="set REPOSITORY"):
            exec(first, {})
        clone = Mock(side_effect=lambda command, check: command[-1].symlink_to(ROOT))
        monkeypatch.setattr("subprocess.run", clone)
        for _ in range(2):  # the second time it is there
            monkeypatch.chdir(tmp_path)
            exec(first.replace('REPOSITORY = ""', 'REPOSITORY = "https://example.org/project"'), {})
            assert Path.cwd() == ROOT
        clone.assert_called_once()
        assert clone.call_args.args[0][-2] == "https://example.org/project"

    def test_it_is_a_notebook(self):
        nbformat = pytest.importorskip("nbformat")
        nbformat.validate(NOTEBOOK)
        ids = [cell["id"] for cell in NOTEBOOK["cells"]]
        assert len(set(ids)) == len(ids)


class TestOutputs:
    """They were written by one run of the cells as they are, on the corpus of the project."""

    def test_they_are_of_these_cells(self, capsys, monkeypatch, tmp_path):
        assert run_notebook.main(["--check"]) == 0
        assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
        monkeypatch.setattr(run_notebook, "CONFIG", tmp_path / "other.sh")
        run_notebook.CONFIG.write_text("max_update=1\n")
        assert run_notebook.main(["--check"]) == 1
        assert "run python -m docs.build.run_notebook" in capsys.readouterr().err

    def test_no_cell_failed_and_no_folder_of_the_machine_is_shown(self):
        kinds = {output["output_type"] for cell in CODE for output in cell["outputs"]}
        assert kinds == {"stream", "display_data"}
        assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|opt|var|Users)\b", outputs())

    def test_they_are_of_the_grammar(self):
        """Text of Multi30k, which has a licence of its own, is not in this repository."""
        assert (ROOT / "configs/notebook/grammar.sh").read_text().splitlines()[1] in outputs()
        assert "24000 training pairs, 1000 test pairs" in outputs()

    def test_the_pictures_are_pictures(self):
        pictures = [
            o["data"]["image/png"] for cell in CODE for o in cell["outputs"] if "image/png" in o.get("data", {})
        ]
        assert len(pictures) == 3
        assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


TINY = """\
vocab_size=300 max_update=6 max_tokens=400
model=(--arch b2t_transformer_tiny --share-all-embeddings)
training=(
    --optimizer adam --lr 1e-3 --criterion label_smoothed_cross_entropy_fused --required-batch-size-multiple 1
    --save-interval-updates 3 --no-epoch-checkpoints
)
"""


@pytest.mark.slow
def test_all_cells_run(tmp_path):
    """With models so small that they learn nothing; then with the same results, which are there already."""
    pytest.importorskip("nbclient")
    (tmp_path / "tiny.sh").write_text(TINY)
    settings = {"CONFIG": str(tmp_path / "tiny.sh"), "WORK": str(tmp_path / "work")}
    notebook = run_notebook.run(settings)
    before = json.dumps(NOTEBOOK["cells"])
    text = "".join(o.get("text", "") for cell in notebook["cells"] for o in cell.get("outputs", []))
    assert text.count("BLEU|nrefs:1") == text.count("after 6 updates") == 3
    assert re.search(r"^(post_ln|pre_ln|b2t): The old dog sees a small house. -> ", text, flags=re.MULTILINE)
    pictures = [o for cell in notebook["cells"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert json.dumps(run_notebook.read()["cells"]) == before  # the file is as it was
