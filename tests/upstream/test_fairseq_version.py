"""Without a fairseq that works, importing the plugin says what to install."""

import subprocess
import sys

from helpers import ROOT


def importing(tmp_path, setup, after=""):
    """Import the plugin in another process, between some code, with what lies in ``tmp_path`` first on the path."""
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; {setup}import b2t_fairseq{after}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_the_release_that_does_not_work_is_refused(tmp_path):
    (tmp_path / "fairseq").mkdir()
    (tmp_path / "fairseq/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "fairseq/version.py").write_text('__version__ = "0.12.2"\n')
    result = importing(tmp_path, "")
    assert "ImportError: b2t_fairseq cannot work with fairseq 0.12.2" in result.stderr
    assert "pip install --no-build-isolation fairseq-fixed==0.12.3.1" in result.stderr


def test_a_missing_fairseq_is_reported(tmp_path):
    hide = "import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda name, *a: None if name == 'fairseq' else f(name, *a); "
    result = importing(tmp_path, hide)
    assert "ImportError: b2t_fairseq needs fairseq, which is not installed" in result.stderr
    assert "scripts/setup.sh" in result.stderr


def test_importing_the_plugin_prints_nothing_and_waits_for_no_package_of_statistics(tmp_path):
    """scikit-learn and SciPy take a third of the time; what fairseq has imported from them works all the same."""
    after = (
        "; assert not {'sklearn', 'scipy'} & set(sys.modules)"
        "; from fairseq.criterions import sentence_prediction as criterion"
        "; from fairseq.tasks import audio_classification"
        "; assert criterion.f1_score([0, 1, 1], [0, 1, 0]) == 2 / 3"
        "; assert round(criterion.pearsonr([1, 2, 3], [2, 4, 6])[0], 9) == 1"
        "; assert audio_classification.sklearn_metrics.accuracy_score([0, 1], [0, 1]) == 1"
    )
    result = importing(tmp_path, "", after)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "INFO" not in result.stderr
