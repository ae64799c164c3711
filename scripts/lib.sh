# shellcheck shell=bash
# What the drivers share; source it first: . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
set -euo pipefail

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# usage: print the comment at the head of the running script
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# need_value OPTION COUNT: an option of a command line must have a value behind it
need_value() { [ "$2" -ge 2 ] || die "$1 needs a value; --help tells more"; }

# shellcheck disable=SC2120
# run_setup [--dev]: install what is missing and put the environment's commands first on the path
run_setup() {
    bash "$PROJECT/scripts/setup.sh" "$@"
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ]; then
        export VIRTUAL_ENV=$PROJECT/.venv
        export PATH=$VIRTUAL_ENV/bin:$PATH
    fi
}

# free_space DIR MEGABYTES: stop early rather than in the middle of a write
free_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "$1 has $free MB of free disk space, $2 MB are needed; give another folder"
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
