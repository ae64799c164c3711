# shellcheck shell=bash
# shellcheck disable=SC2154  # what they set
# What benchmarks/gpu.sh and benchmarks/any_cpu.sh share; it is read by them. They set parts, only, out and python, and
# have a function `arguments PART`, which prints a benchmark's module and its flags.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONUTF8=1 PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore} PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

die() {
    echo "error: $*" >&2
    exit 1
}

# show_help SCRIPT: print the comment at its top
show_help() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"
    exit
}

# check_parts: refuse --only with an unknown part
check_parts() {
    local part
    for part in "${only[@]}"; do
        [[ " ${parts[*]} summary " == *" $part "* ]] || die "--only $part: choose one of ${parts[*]} summary"
    done
}

# run_part PART: run its benchmark; a benchmark whose checks failed has a result too
run_part() {
    local words status=0
    if [[ $1 == ctranslate2* ]] && ! "$python" -c 'import ctranslate2' 2>/dev/null; then
        echo "not run: CTranslate2 is not installed" >"$out/$1.failed"
        return
    fi
    read -ra words <<<"$(arguments "$1")"
    rm -f "$out/$1.json" "$out/$1.md" "$out/$1.failed"
    "$python" -m "benchmarks.${words[0]}" "${words[@]:1}" --output "$out/$1" >"$out/$1.log" 2>&1 || status=$?
    if [ ! -f "$out/$1.json" ]; then
        { echo "exit status $status" && tail -n 3 "$out/$1.log"; } >"$out/$1.failed"
        tail -n 20 "$out/$1.log" >&2
    fi
    [ ! -f "$out/$1.md" ] || cat "$out/$1.md"
    return "$status"
}

# run_all SUMMARY: run all parts that have no result yet, or those of --only; SUMMARY FOLDER writes the page of a folder
run_all() {
    local part failed=()
    mkdir -p "$out"
    for part in "${parts[@]}"; do
        if [ ${#only[@]} -gt 0 ]; then
            [[ " ${only[*]} " == *" $part "* ]] || continue
        elif [ -f "$out/$part.json" ]; then
            echo "$part: done before; --only $part runs it again"
            continue
        fi
        printf '\n== %s\n' "$part"
        run_part "$part" || failed+=("$part")
        "$python" -m "benchmarks.$1" "$out" >/dev/null
    done
    "$python" -m "benchmarks.$1" "$out"
    [ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}; the logs are in $out"
}
