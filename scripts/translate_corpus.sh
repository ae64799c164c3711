#!/usr/bin/env bash
# Translate a text with a trained run on all GPUs or cores, for distillation or back-translation.
#
#   bash scripts/translate_corpus.sh RUN TEXT --output FILE [--processes N] [flags of b2t translate]
#
#   RUN              a run's folder, or a checkpoint; its SentencePiece model splits the text
#   TEXT             one sentence in each line
#   --output FILE    the translations, one for each line of TEXT, in order; empty lines stay empty, long lines are cut
#   --processes N    processes that share the work (default: one for each GPU, else one for each core)
#   flags            for instance --beam 5, --sampling --beam 1, --tag '<BT>', --max-tokens N, --data DIR
#                    (b2t translate --help lists them)
#
# FILE appears when all lines are translated. Until then finished parts are in FILE.parts, and the same command, with
# any number of processes, continues there after a kill. docs/runs.md has recipes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

run='' text='' output='' processes='' cpu='' flags=()
while [ $# -gt 0 ]; do
    # split --flag=value into --flag value
    if [[ $1 == --*=* ]]; then set -- "${1%%=*}" "${1#*=}" "${@:2}"; fi
    case $1 in
        --output) need_value "$@" && output=$2 && shift ;;
        --processes) need_value "$@" && processes=$2 && shift ;;
        --cpu) cpu=1 flags+=("$1") ;;
        --parts-only | --dry-run) die "$1 is for b2t translate itself; leave it out" ;;
        --pieces | --sampling | --fp16 | --bf16 | --int8) flags+=("$1") ;;
        -h | --help) show_help ;;
        -*) need_value "$@" && flags+=("$1" "$2") && shift ;;
        *)
            if [ -z "$run" ]; then run=$1; elif [ -z "$text" ]; then text=$1; else die "unexpected argument $1; see --help"; fi
            ;;
    esac
    shift
done
[ -n "$run" ] && [ -n "$text" ] || die "give a run and a text: bash scripts/translate_corpus.sh RUN TEXT --output FILE"
[ -e "$run" ] || die "$run: no such run"
[ -f "$text" ] || die "$text: no such file"
[ -n "$output" ] || die "--output FILE is missing; see --help"
[ ! -e "$output" ] || die "--output $output exists already; delete it to translate again"
[ -d "$(dirname "$output")" ] || die "--output $output: there is no folder $(dirname "$output")"
[[ $processes =~ ^([1-9][0-9]*)?$ ]] || die "--processes $processes: give a positive number"
use_environment
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore}

gpus=0
[ -n "$cpu" ] || read -r gpus _ < <(python "$PROJECT/scripts/visible_gpus.py")
if [ "$gpus" -gt 0 ]; then
    IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s , 0 $((gpus - 1)))}"
    processes=${processes:-$gpus}
    where="$gpus GPU(s)"
else
    devices=()
    processes=${processes:-$(cores)}
    # several processes with one thread each translate more lines than one process with several threads
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((processes < $(cores) ? $(cores) / processes : 1))}
    where="the CPU"
fi

command=(b2t translate "$run" "$text" --output "$output" "${flags[@]}")
say "$(wc -l <"$text") lines, $processes process(es) on $where"
# what cannot work is said once, and before anything is written
"${command[@]}" --dry-run
mkdir -p "$output.parts"
lock "$output.parts/.lock" "another translation is at work on $output; wait until it ends"
remove_unfinished "$output.parts"

workers=()
stop() {
    trap - TERM INT USR1
    kill "${workers[@]}" 2>/dev/null || true
    wait
    echo "stopped; the same command continues with the parts in $output.parts" >&2
    exit 75
}
trap stop TERM INT USR1
for ((i = 0; i < processes; i++)); do
    [ ${#devices[@]} -eq 0 ] || export CUDA_VISIBLE_DEVICES=${devices[i % ${#devices[@]}]}
    "${command[@]}" --parts-only &
    workers+=($!)
done
failed=''
for worker in "${workers[@]}"; do wait "$worker" || failed=1; done
trap - TERM INT USR1
[ -z "$failed" ] || die "a process failed, see above; the same command continues with the parts in $output.parts"
# all parts are finished, and this joins them
"${command[@]}"
