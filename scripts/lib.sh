# shellcheck shell=bash
# What the scripts share. Each sources it first: . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# before 4.4, "${array[@]}" of an empty array is an error under set -u
[ $((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1])) -ge 404 ] || {
    echo "error: this is bash $BASH_VERSION; bash 4.4 or newer is needed, for instance from conda" >&2
    exit 1
}
set -euo pipefail
unset CDPATH # with it, cd prints the folder
# what fairseq's own commands print and read is UTF-8, whatever the locale
export PYTHONUTF8=1 PYTHONIOENCODING=utf-8

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# As b2t_common/threads.py: beside other work OpenMP's waiting threads must not spin for long.
[ -n "${OMP_WAIT_POLICY:-}${GOMP_SPINCOUNT:-}${KMP_BLOCKTIME:-}" ] || export GOMP_SPINCOUNT=2000

# cores: how many cores this process may use; nproc alone obeys OMP_NUM_THREADS
cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

say() { printf '\n== %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# show_help: print the comment at the head of the running script, and exit
show_help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
}

# need_value "$@": stop if the option $1 has no value
need_value() { [ -n "${2:-}" ] || die "$1 needs a value; see --help"; }

# shellcheck disable=SC2120
# run_setup [--dev]: install what is missing, and put the environment's commands first on PATH
run_setup() {
    bash "$PROJECT/scripts/setup.sh" "$@"
    use_environment
}

# use_environment: put the environment's commands first on PATH; installs nothing
use_environment() {
    if [ -z "${VIRTUAL_ENV:-}" ] && [ -z "${CONDA_PREFIX:-}" ] && [ -d "$PROJECT/.venv" ]; then
        export VIRTUAL_ENV=$PROJECT/.venv
        export PATH=$VIRTUAL_ENV/bin:$PATH
    fi
    command -v b2t >/dev/null || die "b2t is not installed; run: bash $PROJECT/scripts/setup.sh"
}

# free_space DIR MEGABYTES: stop if DIR has less free space, instead of failing later in the middle of a write
free_space() {
    local free
    free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$2" ] || die "$1 has $free MB of free disk space, $2 MB are needed; give another folder"
}

# lock FILE MESSAGE: stop if another process holds the lock. Child processes inherit it, so that it is held until the
# training has ended, also when the script itself was killed.
lock() {
    local status=0
    exec 9>>"$1"
    flock -n -E 75 9 || status=$?
    [ "$status" -ne 75 ] || die "$2 ($1 is locked)"
    [ "$status" -eq 0 ] || die "$1 cannot be locked; give a folder on a file system that supports flock, such as a local disk"
}

# A script that starts a training passes signals on to it: the training ends with a checkpoint and exit status 75, and so
# does the script. "stopped" says that there was a signal.
stopped='' child=''

# pass_on SIGNAL: send it to the child too, which has not received it if only this process was signalled
pass_on() {
    # shellcheck disable=SC2034 # the scripts read it
    stopped=1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null || true
}

# pass_signals_on: from now on; a training has a minute to end after SIGTERM, and SIGINT becomes SIGTERM because background
# processes ignore SIGINT
pass_signals_on() {
    trap 'pass_on USR1' USR1
    trap 'pass_on TERM' TERM INT
}

# follow COMMAND...: run it in the background, because bash handles signals only between foreground commands; return its
# exit status
follow() {
    local status=0 again=0
    "$@" &
    child=$!
    wait "$child" || status=$?
    # a signal interrupts "wait"
    while kill -0 "$child" 2>/dev/null; do
        status=0
        wait "$child" || status=$?
    done
    # the command may have ended just then, and its status is still to be had; 127 says that it is not
    if [ "$status" -gt 128 ]; then
        wait "$child" 2>/dev/null || again=$?
        [ "$again" -eq 127 ] || status=$again
    fi
    child=''
    return "$status"
}

# same_settings FILE SETTINGS WHERE: stop if FILE holds other settings, so that results of different settings are neither
# mixed nor overwritten; write FILE if it does not exist
same_settings() {
    if [ ! -e "$1" ]; then
        printf '%s\n' "$2" >"$1.tmp"
        mv "$1.tmp" "$1"
    elif [ "$(cat "$1")" != "$2" ]; then
        { diff "$1" <(printf '%s\n' "$2") || true; } | sed -n 's/^</there:/p; s/^>/now:  /p' >&2
        die "$3 was begun with other settings, see above ($1); give another folder, or delete this one"
    fi
}

# remove_unfinished DIR: delete the incomplete files that a killed process left; call it only while DIR is locked
remove_unfinished() { find "$1" -name '*.tmp[0-9]*' -delete; }

# quietly LOG COMMAND...: write the output to LOG, and show the end of it if the command fails
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "${1##*/} failed; the whole log is $log"
    }
}

# stage DIR NAME COMMAND...: run a stage unless it is complete, and record its seconds; an interrupted stage runs again
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
