"""What users download is complete and nothing else: the wheel, the source distribution, and what their metadata say."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata

import pytest
from helpers import ROOT
from training import SHARED, binarize, write_corpus

from b2t_common import __version__
from b2t_fairseq.upstream.compatibility import FAIRSEQ

PACKAGES = ("b2t_cli", "b2t_common", "b2t_fairseq")
# folders in the project's folder that are not part of the project
NOT_TRACKED = {".git", ".venv", "runs", "data", "outputs", "multirun", "build", "dist"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built with a blank")
    made = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*_cache")

    def ignored(path, names):
        return made(path, names) | (NOT_TRACKED if path == str(ROOT) else set())

    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(folder / "source")]
    result = subprocess.run(build, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "dist"


@pytest.fixture(scope="module")
def source_files(built):
    """The names of the files in the source distribution, without its top folder."""
    (archive,) = built.glob("*.tar.gz")
    assert archive.name == f"b2t_fairseq-{__version__}.tar.gz"
    with tarfile.open(archive) as tar:
        return {member.name.split("/", 1)[1] for member in tar if member.isfile()}


@pytest.fixture(scope="module")
def site(built, tmp_path_factory):
    """The wheel unpacked, as pip installs it."""
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_of(folder, *patterns):
    paths = (path for pattern in patterns for path in (ROOT / folder).rglob(pattern))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts}


def python(site, folder, code, *arguments, check=True):
    """Run code with the packages of ``site`` in a folder where no part of the project lies."""
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def b2t(site, folder, *arguments, check=True):
    return python(site, folder, "from b2t_cli import main; raise SystemExit(main())", *arguments, check=check)


# what a message says that sends the user to a script
EVALUATE = "from b2t_common.scripts import script_command; print(script_command('evaluate.sh', 'run'))"


def test_the_wheel_holds_the_packages_and_nothing_else(site):
    expected = set().union(*(files_of(package, "*.py", "*.json") for package in PACKAGES))
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {name for name in files if ".dist-info/" not in name} == expected


def test_the_source_distribution_holds_what_a_user_needs(source_files):
    """Packages, scripts and configurations; neither tests nor the data and results of experiments."""
    scripts = files_of("scripts", "*.sh", "*.py", "*.tsv", "*.sbatch") - {"scripts/test.sh"}
    needed = scripts | files_of("configs", "*.sh", "*.yaml") | files_of("b2t_fairseq", "*.py")
    assert not needed - source_files
    assert {"README.md", "CHANGELOG.md", "LICENSE", "hubconf.py"} <= source_files
    folders = {name.split("/")[0] for name in source_files if "/" in name}
    assert folders == {*PACKAGES, "b2t_fairseq.egg-info", "configs", "docs", "scripts"}
    assert {name.rsplit(".")[-1] for name in source_files if name.startswith("docs/")} == {"md", "svg", "ipynb"}


def test_twine_accepts_both(built):
    """The wheel and the source distribution can be uploaded."""
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("PASSED") == 2


def test_metadata(site):
    """Which Pythons, PyTorches and fairseqs fit, and which extras there are."""
    (info,) = site.glob("b2t_fairseq-*.dist-info")
    distribution = metadata.PathDistribution(info)
    assert distribution.version == __version__
    assert set(distribution.metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    requirements = [requirement.replace(" ", "").replace("'", '"') for requirement in distribution.requires]
    assert f'{FAIRSEQ};extra=="fairseq"' in requirements
    # a plain "fairseq" would be the official release, which the plugin refuses
    assert not any(re.split(r"[^\w.-]", requirement)[0] == "fairseq" for requirement in requirements)
    assert "torch>=2.6" in requirements
    extras = set(distribution.metadata.get_all("Provides-Extra"))
    extras_of_setup = {"fairseq", "report", "tensorboard", "moses-bpe", "convert"}
    assert extras == {*extras_of_setup, "wandb", "transformers", "comet", "notebook", "dev"}
    assert [entry.value for entry in distribution.entry_points if entry.name == "b2t"] == ["b2t_cli:main"]


def test_the_version_is_the_same_everywhere():
    """The newest section of the CHANGELOG and the citation are of the version that pip shows."""
    sections = re.findall(r"^## (\S+)(?: \((\d{4}-\d\d-\d\d)\))?$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    version, date = next(section for section in sections if section[0] != "Unreleased")
    citation = (ROOT / "CITATION.cff").read_text()
    assert version == __version__
    assert f"\nversion: {version}\n" in citation
    assert f'\ndate-released: "{date}"\n' in citation


def test_the_commands_of_an_installed_wheel(site, tmp_path):
    """They come from the wheel, and say where the scripts are, which are not in it."""
    assert b2t(site, tmp_path, "path").stdout.strip() == str(site / "b2t_fairseq")
    assert b2t(site, tmp_path, "--version").stdout.strip() == f"b2t_fairseq {__version__}"
    where = "in a checkout or in the source distribution of b2t_fairseq"
    result = b2t(site, tmp_path, "path", "--scripts", check=False)
    assert result.returncode == 1
    assert where in result.stderr
    assert python(site, tmp_path, EVALUATE).stdout.startswith(f"`bash scripts/evaluate.sh run` {where}")


def test_the_commands_of_a_checkout_find_its_scripts(tmp_path):
    assert b2t(ROOT, tmp_path, "path", "--scripts").stdout.strip() == str(ROOT / "scripts")
    script = python(ROOT, tmp_path, EVALUATE).stdout.strip().strip("`")
    assert shlex.split(script) == ["bash", str(ROOT / "scripts/evaluate.sh"), "run"]


@pytest.mark.slow
def test_an_installed_wheel_trains_and_translates(site, tmp_path):
    """Without the project's folder: training, averaging, translating, scoring, a report."""
    write_corpus(tmp_path)
    binarize(tmp_path)
    model = shlex.split("--arch b2t_transformer_tiny --encoder-layers 4 --decoder-layers 4 --share-all-embeddings")
    recipe = shlex.split("--optimizer adam --lr 0.01 --max-tokens 400 --max-update 12")
    output = shlex.split("--log-format simple --log-interval 1 --log-file train.log --save-dir run")
    b2t(site, tmp_path, "train", "bin", *model, *SHARED, *recipe, *output, "--cpu")
    b2t(site, tmp_path, "average", "run", "--by", "epochs", "--last", "2", "--output", "averaged.pt")
    generate = ("generate", "bin", "--path", "averaged.pt", "--cpu", "--required-batch-size-multiple", "1")
    (tmp_path / "generated.txt").write_text(b2t(site, tmp_path, *generate).stdout)
    score = b2t(site, tmp_path, "score", "generated.txt", "--reference", "test.de")
    assert "BLEU" in score.stdout
    (tmp_path / "train.log").rename(tmp_path / "run/train.log")
    b2t(site, tmp_path, "report", "run")
    assert (tmp_path / "report/report.html").is_file()
