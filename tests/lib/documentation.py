"""The pages of the documentation: their blocks, their inline code, and the commands in both."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from helpers import ROOT

_NAMES = ["README.md", "CONTRIBUTING.md", "claims/README.md", "claims/study/README.md"]
_NAMES += [f"docs/{path.name}" for path in sorted(ROOT.glob("docs/*.md"))]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in _NAMES}
"""The text of every page by its name. The CHANGELOG is not among them: it names what no longer exists."""

NOTEBOOK = "docs/quickstart.ipynb"


def page_of_notebook(variables: dict[str, str]) -> str:
    """Return the notebook as a page: its text, and its cells as blocks in which shell variables have these values."""
    page = []
    for cell in json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            magic, _, commands = text.partition("\n")
            shell = magic.startswith("%%bash")
            for name, value in variables.items():
                commands = commands.replace(f"${name}", value)
            text = f"```bash\n{commands}\n```" if shell else f"```python\n{text}\n```"
        page.append(text)
    return "\n\n".join(page)


COMMANDS = ("b2t", "bash", "python", "pip", "torchrun", "sbatch", "srun")


def fences(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of every fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def inline_code(text: str) -> list[str]:
    """Return all inline code of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", prose)


def fenced_commands(text: str) -> list[list[str]]:
    """Return every command of a page's bash blocks as a list of words."""
    code = "\n".join(block for language, block in fences(text) if language == "bash")
    return list(statements(code))


def inline_commands(text: str) -> list[list[str]]:
    """Return every command in a page's inline code that has arguments, its subcommand not counted."""
    commands = []
    for code in inline_code(text):
        first, *rest = code.split()
        while re.fullmatch(r"[A-Z0-9_]+=.*", first) and rest:
            first, *rest = rest
        if len(rest) > (first == "b2t") and (first in COMMANDS or first.startswith(("fairseq-", "ct2-"))):
            commands += statements(code)
    return commands


def statements(code: str) -> Iterator[list[str]]:
    """Yield the commands of a piece of shell code.

    Loops run once, with the first value. Comments, redirections and assignments before a command are left out.
    """
    loop = {}
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in (";", "&&", "||", "|"):
                words.append(word)
                continue
            if words[:1] == ["for"]:
                loop[f"${words[1]}"] = words[3]
            else:
                yield from _command(words, loop)
            words = []


def _command(words: list[str], loop: dict[str, str]) -> Iterator[list[str]]:
    while words and (words[0] in ("do", "done") or re.fullmatch(r"[A-Z0-9_]+=.*", words[0])):
        words = words[1:]
    if ">" in words:
        words = words[: words.index(">")]
    for variable, value in loop.items():
        words = [word.replace(variable, value) for word in words]
    if words:
        yield [word.replace("$(b2t path)", str(ROOT / "b2t_fairseq")) for word in words]
