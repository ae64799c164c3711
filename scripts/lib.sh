# shellcheck shell=bash
# What the drivers share; source it first: . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# empty arrays are unset ones before
[ $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1])) -ge 404 ] || {
    echo "error: this is bash $BASH_VERSION; bash 4.4 or newer is needed, for instance from conda" >&2
    exit 1
}
set -euo pipefail
unset CDPATH # cd would print

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# cores: how many this process may use; nproc by itself would count OpenMP's threads
cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

say() { printf '\n== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# show_help: print the comment at the head of the running script, and end
show_help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
}

# need_value "$@": an option of a command line must have a value behind it
need_value() { [ -n "${2:-}" ] || die "$1 needs a value; --help tells more"; }

# shellcheck disable=SC2120
# run_setup [--dev]: install what is missing and put the environment's commands first on the path
run_setup() {
    bash "$PROJECT/scripts/setup.sh" "$@"
    use_environment
}

# use_environment: put the environment's commands first on the path, without installing anything
use_environment() {
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ] && [ -d "$PROJECT/.venv" ]; then
        export VIRTUAL_ENV=$PROJECT/.venv
        export PATH=$VIRTUAL_ENV/bin:$PATH
    fi
    command -v b2t >/dev/null || die "b2t is not installed; run: bash $PROJECT/scripts/setup.sh"
}

# free_space DIR MEGABYTES: stop early rather than in the middle of a write
free_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "$1 has $free MB of free disk space, $2 MB are needed; give another folder"
}

# lock FILE WHAT: end if another process has it; the training processes inherit it, so it outlives a killed script
lock() {
    local status=0
    exec 9>>"$1"
    flock -n -E 75 9 || status=$?
    [ "$status" -ne 75 ] || die "$2 ($1 is locked)"
    [ "$status" -eq 0 ] || die "$1 cannot be locked; choose a folder on a file system that knows flock, such as a local disk"
}

# same_settings FILE SETTINGS WHERE: what was made with other settings is neither mixed in nor overwritten
same_settings() {
    if [ ! -e "$1" ]; then
        printf '%s\n' "$2" >"$1.tmp"
        mv "$1.tmp" "$1"
    elif [ "$(cat "$1")" != "$2" ]; then
        { diff "$1" <(printf '%s\n' "$2") || true; } | sed -n 's/^</there:/p; s/^>/now:  /p' >&2
        die "$3 was begun with other settings, see above ($1); give another folder, or delete it"
    fi
}

# remove_unfinished DIR: files that a killed process of ours left half written; only while DIR is locked
remove_unfinished() { find "$1" -name '*.tmp[0-9]*' -delete; }

# quietly LOG COMMAND...: keep the output in a file, show its end if the command fails
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "${1##*/} failed; the whole log is $log"
    }
}

# stage DIR NAME COMMAND...: run a stage once and note its seconds; a stage that was interrupted is run again
stage() {
    local done_file=$1/.done/$2 name=$2 begin=$SECONDS
    shift 2
    if [ -e "$done_file" ]; then
        echo "$name: done before, in $(cat "$done_file") s"
        return
    fi
    "$@"
    mkdir -p "$(dirname "$done_file")"
    echo $((SECONDS - begin)) >"$done_file.tmp"
    mv "$done_file.tmp" "$done_file"
}
