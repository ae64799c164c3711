#!/usr/bin/env bash
# Set up and run all checks: ruff, shellcheck, codespell, mypy, pytest.
#
#   bash scripts/test.sh [--all] [pytest options]
#
# --all also runs the tests marked slow (minutes), and those of libraries that the other tests do not need: COMET,
# transformers, Weights & Biases. It installs them first.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT"

selection=(-m 'not slow') libraries=()
case ${1:-} in
    --all)
        selection=() libraries=(--comet --extra transformers --extra wandb)
        shift
        ;;
    -h | --help) show_help ;;
esac
run_setup --dev "${libraries[@]}"
say "ruff, shellcheck, codespell, mypy"
ruff check .
ruff format --check .
shellcheck -x -P SCRIPTDIR .ci/run scripts/*.sh scripts/corpus/*.sh benchmarks/*.sh benchmarks/*/*.sh scripts/slurm/*.sbatch configs/*/*.sh claims/*.sh claims/*/*.sh
codespell
mypy
say "pytest"
# A process for each core, up to four. All tests of a file run in one process, because they share what they are tested
# on; the files are in the order of tests/conftest.py.
cores=$(cores)
# a test that hangs is ended, after pytest has printed where it hangs
exec timeout --foreground 40m python -m pytest --numprocesses $((cores < 4 ? cores : 4)) --dist loadfile --no-loadscope-reorder \
    "${selection[@]}" "$@"
