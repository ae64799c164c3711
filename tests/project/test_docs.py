"""The documentation is true: its commands parse, its links and paths exist, its generated parts are up to date."""

import re

import pytest
from documentation import (
    NOTEBOOK,
    PAGES,
    fenced_commands,
    fences,
    inline_code,
    inline_commands,
    page_of_notebook,
    statements,
)
from helpers import ROOT
from parsers import Refused, check, help_of, known_options, parser_of

from b2t_cli import COMMANDS
from b2t_common import __version__
from docs.build import write_tables

# the flags of the papers' releases, which docs/methods.md translates
RELEASES = {"--residual-bottom-to-top", "--sampling-method", "--enc-replace-rate", "--dec-replace-rate"}
RELEASES |= {"--share-params-cross-layer", "--share-layer-num", "--share-type"}
# the blocks of the notebook are checked by test_notebook.py
TEXTS = {**PAGES, NOTEBOOK: page_of_notebook({})}
CHANGELOG = "CHANGELOG.md"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


class TestCommands:
    @pytest.mark.parametrize("page", PAGES)
    def test_every_command_in_a_block_is_accepted_by_its_own_parser(self, page):
        for words in fenced_commands(PAGES[page]):
            check(words)

    @pytest.mark.parametrize("page", TEXTS)
    def test_every_command_in_the_text_is_accepted_by_its_own_parser(self, page):
        for words in inline_commands(TEXTS[page]):
            check(words)

    def test_commands_are_found(self):
        """Commands of every kind are among those that are tested."""
        seen = {words[0] for text in PAGES.values() for words in fenced_commands(text)}
        assert seen >= {"bash", "b2t", "python", "pip", "env", "torchrun", "sbatch", "srun", "ct2-fairseq-converter"}
        assert seen >= {f"fairseq-{name}" for name in ("preprocess", "train", "generate", "eval-lm", "hydra-train")}
        shown = {words[1] for text in PAGES.values() for words in fenced_commands(text) if words[0] == "b2t"}
        assert shown >= COMMANDS.keys() - {"path", "table"}

    def test_blocks_have_a_language_that_is_tested(self):
        """A command cannot hide from these tests in a block of another language."""
        assert {language for text in PAGES.values() for language, _ in fences(text)} == {"", "bash", "bibtex", "python"}

    @pytest.mark.parametrize(
        "command",
        [
            "b2t training data --arch b2t_transformer",
            "b2t train data --arch b2t_transformer --residul b2t",
            "b2t train data --arch b2t_transformer --residual b3t",
            "b2t average run --las 10 --output averaged.pt",
            "b2t analyze --data data --residual b2t -- --arch b2t_transformer --share-al-embeddings",
            "b2t generate data --path model.pt --subset-lenpn test=1",
            "fairseq-training data --arch transformer",
            "fairseq-generate data --path model.pt --bem 4",
            "fairseq-preprocess -s en -t de --destdri data",
            "fairseq-hydra-train --config-dir configs/hydra --config-name b2t_cycle_rev common.userdir=x",
            "python scripts/corpus/spm.py encode spm.model in out --vocab 1",
            "python scripts/spm.py encode spm.model in out",
            "python -m docs.build.write_tables --chek",
            "bash scripts/quickstart.sh --corpuss multi30k",
            "bash scripts/prepare_wmt14_en_de.sh --vocabulry 8000",
            "bash scripts/prepare_iwslt14_de_en.sh --tokenisation sentencepiece",
            "bash scripts/evaluate.sh runs/run --cmet",
            "bash scripts/sweep.sh --seed 1 configs/wmt14_en_de/vanilla.sh",
            "bash scripts/sweep.sh configs/wmt14_en_de/vanila.sh",
            "bash scripts/sweep.sh configs/wmt14_en_de/vanilla.sh -- --dropot 0.1",
            "bash scripts/setup.sh --devel",
            "bash scripts/tests.sh",
            "bash scripts/train.sh configs/wmt14_en_de/b2t.sh",
            "bash scripts/train.sh configs/small/cpu.sh --max-updates 200",
            "bash claims/run.sh --onyl divergence",
            "sbatch --node 2 scripts/slurm/train.sbatch configs/wmt14_en_de/vanilla.sh",
            "srun --gpus 1 bash scripts/evaluate.sh runs/run --cmet",
            "torchrun --nodes 2 --no-python bash scripts/train.sh configs/small/cpu.sh",
            "pip install -e '.[reports]'",
            "pip setup torch",
            "source venv/bin/activate",
        ],
    )
    def test_a_wrong_command_is_refused(self, command):
        (words,) = statements(command)
        with pytest.raises(Refused):
            check(words)

    def test_shell_code_is_split_into_commands(self):
        code = 'A=1 b2t score "$(b2t path)" \\\n  x > y  # c\nfor i in 1 2; do\n  echo $i.txt; done; cat f | b2t path'
        plugin = str(ROOT / "b2t_fairseq")
        expected = [["b2t", "score", plugin, "x"], ["echo", "1.txt"], ["cat", "f"], ["b2t", "path"]]
        assert list(statements(code)) == expected

    def test_flags_in_the_text_exist(self):
        known = {"--user-dir", "--help", "--version", "--check"} | RELEASES
        for command in ("fairseq-train", "fairseq-generate", "fairseq-preprocess", "fairseq-eval-lm"):
            known |= known_options(command)
        for words in (
            ["convert", "a", "b"],
            ["report", "a"],
            ["analyze", "--data", "a"],
            ["score", "a"],
            ["table", "a"],
            ["average", "a", "--output", "b"],
            ["grow", "a"],
            ["shortlist", "a", "--output", "b"],
            ["generate", "a", "--path", "b"],
            ["translate", "a", "b", "--output", "c"],
            ["mbr", "a", "--output", "b"],
        ):
            known |= set(parser_of(["b2t", *words])._option_string_actions)
        names = ("quickstart", "prepare_wmt14_en_de", "prepare_iwslt14_de_en", "train", "evaluate", "sweep")
        scripts = [f"scripts/{name}.sh" for name in names]
        for script in [*scripts, "scripts/setup.sh", "scripts/test.sh", "claims/run.sh", "claims/study/run.sh"]:
            known |= set(re.findall(r"(?<!\w)--[a-z][\w-]*", help_of(script)))
        for page, text in TEXTS.items():
            for code in inline_code(text):
                if not inline_commands(f"`{code}`"):
                    unknown = set(re.findall(r"(?<![\w/-])--[a-z][\w-]*", code)) - known
                    assert not unknown, (page, code)


class TestLinks:
    @pytest.mark.parametrize("page", [*TEXTS, CHANGELOG])
    def test_links_and_images_lead_somewhere(self, page):
        folder = (ROOT / page).parent
        text = TEXTS.get(page) or (ROOT / page).read_text(encoding="utf-8")
        text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text):
            if target.startswith(("http://", "https://")):
                continue
            name, _, anchor = target.partition("#")
            path = (folder / name).resolve() if name else ROOT / page
            assert path.exists(), (page, target)
            assert path.is_relative_to(ROOT), (page, target)
            if anchor:
                assert anchor in anchors(path.read_text(encoding="utf-8")), (page, target)

    @pytest.mark.parametrize("page", TEXTS)
    def test_paths_in_the_text_exist(self, page):
        folders = "b2t_fairseq|b2t_cli|b2t_common|benchmarks|claims|configs|docs|scripts|tests"
        for code in inline_code(TEXTS[page]):
            if re.fullmatch(rf"({folders})/[\w./-]+", code):
                assert (ROOT / code).exists(), (page, code)

    def test_the_readme_lists_every_page(self):
        listed = set(re.findall(r"^\| \[\w+\]\((docs/\w+\.md)\)", PAGES["README.md"], flags=re.MULTILINE))
        assert listed == {page for page in PAGES if page.startswith("docs/")}


class TestGeneratedParts:
    @pytest.mark.parametrize("page", write_tables.FILES)
    def test_they_are_up_to_date(self, page):
        text = PAGES[page]
        assert write_tables.rewrite(page, text) == text, "run python -m docs.build.write_tables"

    def test_every_marker_belongs_to_a_part(self):
        for page, text in PAGES.items():
            parts = set(re.findall(r"^<!-- (?!end of )(.+) -->$", text, flags=re.MULTILINE))
            assert parts == (write_tables.FILES[page]().keys() if page in write_tables.FILES else set())

    def test_a_page_without_its_markers_is_refused(self):
        with pytest.raises(ValueError, match="has 0 parts <!-- schemes -->"):
            write_tables.rewrite("docs/methods.md", "# Methods\n")


def test_what_no_gpu_means_is_said_once():
    said = {page: re.findall(r"(?:no|none)(?: GPU)? was at hand", text, flags=re.I) for page, text in PAGES.items()}
    assert {page: len(found) for page, found in said.items() if found} == {"README.md": 1}


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, flags=re.MULTILINE)[1] == __version__
