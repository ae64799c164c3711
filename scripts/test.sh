#!/usr/bin/env bash
# Set up and run all checks: ruff, shellcheck, pytest.
#
#   bash scripts/test.sh [--all] [pytest options]
#
# --all also runs the tests marked slow (minutes).
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$PROJECT"

selection=(-m 'not slow')
case ${1:-} in
    --all)
        selection=()
        shift
        ;;
    -h | --help) show_help ;;
esac
run_setup --dev
say "ruff and shellcheck"
ruff check .
ruff format --check .
shellcheck -x -P SCRIPTDIR .ci/run scripts/*.sh scripts/slurm/*.sbatch configs/*/*.sh
say "pytest"
# a process for each core, up to four; all tests of a file in one, as they share what they are tested on, and the files in
# the order of tests/conftest.py
cores=$(cores)
# a test that hangs must not hold a machine for ever; where it hangs is printed before
exec timeout --foreground 40m python -m pytest --numprocesses $((cores < 4 ? cores : 4)) --dist loadfile --no-loadscope-reorder \
    "${selection[@]}" "$@"
