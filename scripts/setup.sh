#!/usr/bin/env bash
# Install this project and what its commands need: into the active virtual or conda environment, otherwise into .venv.
#
#   bash scripts/setup.sh          what training, scoring, reports and conversion need
#   bash scripts/setup.sh --dev    also what the tests need
#   bash scripts/setup.sh --comet  also COMET, for b2t score --comet and b2t mbr --utility comet
#   bash scripts/setup.sh --extra NAME  also an extra of pyproject.toml, such as wandb or transformers
#
# Flags can be given together.
#
# A torch (2.6 or newer) that is already there is kept. Environment:
#   PYTHON     the Python for a new .venv (default: the first of python3, python3.13 ... python3.10 that is suitable)
#   B2T_TORCH  what to install where there is no torch (default: torch==2.13.0, the version tested;
#              for a particular CUDA also set pip's own PIP_INDEX_URL)
# PyPI's PyTorch is built for CUDA 13: it needs NVIDIA's driver 580 or newer, and runs on no V100. Where nvidia-smi shows
# less, the script installs nothing and names another PyTorch.
# A second call finds everything installed and does nothing.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

extras=(fairseq report tensorboard moses-bpe convert)
comet=''
while [ $# -gt 0 ]; do
    case $1 in
        --dev) extras+=(dev) ;;
        --comet) extras+=(comet) comet=$(sed -n 's/^comet = "\(.*\)"$/\1/p' "$PROJECT/pyproject.toml") ;;
        --extra)
            need_value "$@"
            grep -q "^$2 = \[" "$PROJECT/pyproject.toml" || die "--extra $2: pyproject.toml has no such extra"
            extras+=("$2")
            shift
            ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done

# one_at_a_time: a second call waits until the first one ends, because it would build the same environment again.
# The file is opened only once: opening it again would release the lock.
[ ! -w "$PROJECT" ] || exec 9>>"$PROJECT/.lock"
# some file systems have no locks; there nothing is waited for
one_at_a_time() { [ ! -w "$PROJECT" ] || flock 9 || true; }

is_suitable() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
    venv=$PROJECT/.venv
    [ -x "$venv/bin/pip" ] || one_at_a_time
    if [ ! -x "$venv/bin/pip" ]; then
        for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
            if is_suitable "$python"; then break; fi
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
is_suitable python || die "$(python --version 2>&1) is active, but this project needs Python 3.10 to 3.13"

is_installed() {
    python "$PROJECT/scripts/is_installed.py" "$PROJECT" "${extras[@]}" || return 1
    [ -z "$comet" ] || python -c 'from importlib.metadata import version; version("unbabel-comet")'
}
report() {
    echo "setup: all installed in $(python -c 'import sys; print(sys.prefix)')"
    python "$PROJECT/scripts/gpu_driver.py" >&2
    [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] || echo "to use it: source \"$PROJECT/.venv/bin/activate\""
}
if is_installed 2>/dev/null || { one_at_a_time && is_installed 2>/dev/null; }; then
    report
    exit
fi

pip() { python -m pip --disable-pip-version-check "$@"; }

if python -c 'import torch' 2>/dev/null; then
    say "keeping torch $(python -c 'import torch; print(torch.__version__)')"
else
    if [ -z "${B2T_TORCH:-}${PIP_INDEX_URL:-}${PIP_EXTRA_INDEX_URL:-}" ]; then
        advice=$(python "$PROJECT/scripts/gpu_driver.py" --default)
        [ -z "$advice" ] || die "$advice"
    fi
    say "installing torch"
    if [ -n "${B2T_TORCH:-}" ]; then
        pip install "$B2T_TORCH"
    else
        pip install torch==2.13.0 || pip install 'torch>=2.6'
    fi
fi
# The steps below must keep this torch. The constraint takes its version from the metadata, as pip compares with that;
# torch.__version__ may differ from it.
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >"$constraint"
export PIP_CONSTRAINT=$constraint

fairseq=$(sed -n 's/^fairseq = \["\(.*\)"\]$/\1/p' "$PROJECT/pyproject.toml")
say "installing $fairseq (compiled here except on Python 3.12; half a minute)"
if pip show fairseq >/dev/null 2>&1; then
    pip uninstall -y fairseq
fi
pip install cython numpy 'setuptools>=77' wheel
(unset CUDA_HOME && pip install --no-build-isolation "$fairseq") ||
    die "$fairseq could not be installed, see above. If the compilation failed: it needs a C++ compiler and Python's headers (Debian: apt install g++ python3-dev)"

say "installing b2t_fairseq"
# without isolation, because the build needs nothing but the setuptools installed above
pip install --no-build-isolation -e "${PROJECT}[$(IFS=, && echo "${extras[*]}")]"
[ -z "$comet" ] || pip install --no-deps "$comet"
is_installed || die "the installation is not complete, see above; run this script again and read the first error"
report
