"""What pip installs is the whole plugin, and its metadata says what it needs."""

import shutil
import subprocess
import sys
from importlib import metadata

from helpers import ROOT


def test_pip_installs_the_whole_plugin(tmp_path):
    """pip install of a copy into an empty folder: every module and table is there, and the command works from it."""
    source, target = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "b2t_fairseq", source / "b2t_fairseq", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    for kind in ("*.py", "*.json"):
        files = {path.relative_to(ROOT) for path in (ROOT / "b2t_fairseq").rglob(kind)}
        assert files == {path.relative_to(target) for path in (target / "b2t_fairseq").rglob(kind)}
    code = f"import sys; sys.path.insert(0, {str(target)!r}); from b2t_fairseq.cli import main; main(['path'])"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == str(target / "b2t_fairseq")
    (info,) = target.glob("b2t_fairseq-*.dist-info")
    distribution = metadata.PathDistribution(info)
    assert set(distribution.metadata["Requires-Python"].split(",")) == {">=3.10", "<3.14"}
    requirements = distribution.requires
    assert 'fairseq-fixed==0.12.3.1; extra == "fairseq"' in requirements
    assert not any(requirement.split(";")[0].strip() == "fairseq" for requirement in requirements)
    assert "torch>=2.6" in requirements
    assert [e.value for e in distribution.entry_points if e.name == "b2t"] == ["b2t_fairseq.cli:main"]
