# shellcheck shell=bash
# What the two drivers of the claims share: scripts/lib.sh, and how runs of one core each go side by side.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

# module NAME ARGUMENTS...: run a Python module of the project
module() { (cd "$PROJECT" && python -m "$@"); }

# need_count "$@": stop if the value of the option $1 is not a positive whole number
need_count() { need_value "$@" && { [[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1 $2: give a positive whole number"; }; }

# one_core_each: set the environment of runs that have one core each
one_core_each() {
    # the last two make glibc keep freed memory instead of returning it to the system
    export OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736
    export PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore}
}

# stop: end all runs; exit status 75 as in train.sh: the same command continues
stop() {
    local job
    for job in $(jobs -rp); do kill -- "-$job" || true; done
    wait
    exit 75
}
