#!/usr/bin/env bash
# Check the papers' claims on real text with small models of full depth, on a CPU; write docs/results.md and its figures.
#
#   bash claims/run.sh [--only CLAIM[,CLAIM]] [--seeds "1 2 3"] [--jobs N] [--out DIR] [--from DIR]
#                                    [-- fairseq flags]
#
#   --only CLAIM    only what these claims take; --list shows all
#   --seeds "..."   seeds of every run (default: 1 2 3; fewer than three decide nothing)
#   --jobs N        runs at a time, one core each (default: all cores)
#   --out DIR       where the runs go, as DIR/CONFIG/seedN (default: runs/claims)
#   --from DIR      take Multi30k's files from DIR instead of downloading them
#   --list          print the claims, and end
#   fairseq flags   for every training, for instance -- --max-update 20000 --total-num-update 20000. The numbers then go
#                   to DIR/results, and the tables are printed: the project's own stay as they are
#
# All claims take 5 to 30 minutes for each of 60 runs: an hour or two on many cores, a night on two; those of gradients
# and speed alone take minutes. A second call goes on where the first one stopped; what is finished is not done again.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

only='' seeds=(1 2 3) jobs=$(cores) out=$PROJECT/runs/claims from=() list='' flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --only) need_value "$@" && only=$2 && shift ;;
        --seeds) need_value "$@" && read -ra seeds <<<"$2" && shift ;;
        --jobs) need_value "$@" && jobs=$2 && shift ;;
        --out) need_value "$@" && out=$2 && shift ;;
        --from) need_value "$@" && from=(--from "$(realpath "$2")") && shift ;;
        --list) list=1 ;;
        -h | --help) show_help ;;
        --)
            shift
            flags=("$@")
            break
            ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs $jobs: give a positive whole number"
[ ${#seeds[@]} -gt 0 ] || die "--seeds names no seed"
for seed in "${seeds[@]}"; do [[ $seed =~ ^[0-9]+$ ]] || die "--seeds: $seed is not a whole number"; done
# with what draws figures
run_setup --dev
if [ -n "$list" ]; then
    python "$PROJECT/claims/registry.py" --list
    exit
fi
needed=$(python "$PROJECT/claims/registry.py" --only "$only")
{ read -ra configs && read -ra extras; } <<<"$needed" || true
mkdir -p "$out"
out=$(cd "$out" && pwd)
lock "$out/.lock" "another reproduce_claims.sh is at work in $out; wait for it, or give another --out"
# the corpus and the analyses; a run of 18-18 layers has three checkpoints of 30 MB
free_space "$out" $((500 + 100 * ${#configs[@]} * ${#seeds[@]}))
plugin=$(b2t path)
results=$PROJECT/claims/results
[ ${#flags[@]} -eq 0 ] || results=$out/results
# one core each; and memory that is kept is not fetched from the system again and again
export OMP_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore}
base=$PROJECT/claims/configs/b2t_18l.sh

# provenance FILE COMMAND: what a run is made with, noted at each start; what has changed since an earlier one is added
provenance() {
    python - "$PROJECT" "$1" "$2" <<'PYTHON'
import json, pathlib, platform, subprocess, sys, time
project, path = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, f"{project}/scripts")
import machine, torch
from b2t_fairseq.files import write_whole
describe = ["git", "-C", project, "describe", "--always", "--dirty"]
now = {
    "commit": subprocess.run(describe, capture_output=True, text=True).stdout.strip() or "unknown",
    "date": time.strftime("%Y-%m-%d"), "hardware": f"1 core of {machine.processor()}",
    "torch": torch.__version__, "python": platform.python_version(),
}
before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else now
all_starts = {key: ", ".join(dict.fromkeys([*before[key].split(", "), value])) for key, value in now.items()}
write_whole({path: json.dumps({**all_starts, "command": sys.argv[3]}).encode()})
PYTHON
}

# gave_up RUN: fairseq ends over gradients that are not finite; what there is of such a run is a result too
gave_up() { [ -e "$1/checkpoint_last.pt" ] && b2t report "$1" --text 2>/dev/null | grep 'fairseq gave up' >/dev/null; }

# one_run CONFIG SEED: train, translate, score
one_run() {
    local config=$PROJECT/claims/configs/$1.sh run=$out/$1/seed$2 begin=$SECONDS generation=()
    [ ! -e "$run/score.txt" ] || return 0
    # after a signal, until train.sh has written its checkpoint
    trap : INT TERM
    # shellcheck source=claims/configs/b2t_18l.sh
    . "$config"
    local command="bash scripts/train.sh claims/configs/$1.sh --data DIR --save-dir RUN --seed $2 --cpu${flags[*]:+ ${flags[*]}}"
    provenance "$run/provenance.json" "$command" || return
    bash "$PROJECT/scripts/train.sh" "$config" --data "$out/corpus/data" --save-dir "$run" --seed "$2" --cpu \
        "${flags[@]}" >"$run/driver.txt" 2>&1 || gave_up "$run" || return
    fairseq-generate "$out/corpus/data" --user-dir "$plugin" --path "$run/checkpoint_last.pt" --gen-subset test --cpu \
        --remove-bpe sentencepiece --required-batch-size-multiple 1 --max-tokens 4000 "${generation[@]}" \
        >"$run/generated.tmp" 2>>"$run/driver.txt" || return
    mv "$run/generated.tmp" "$run/generated.txt"
    b2t score "$run/generated.txt" --reference "$out/corpus/raw/test_2016_flickr.de" --output "$run/hypotheses.de" \
        >"$run/score.tmp" 2>>"$run/driver.txt" || return
    mv "$run/score.tmp" "$run/score.txt"
    echo "$1, seed $2: $((SECONDS - begin)) s, $(head -n 1 "$run/score.txt" | sed 's/.* = /BLEU /')"
}

# analysis NAME ARGUMENTS...: b2t analyze once
analysis() {
    local folder=$out/analysis/$1
    shift
    [ ! -e "$folder/analysis.json" ] || return 0
    mkdir -p "$out/analysis"
    # one at a time, so with all cores
    quietly "$folder.log" env -u OMP_NUM_THREADS b2t analyze --data "$out/corpus/data" --cpu --output "$folder" "$@"
    echo "analysis: $folder"
}

# analyses SEED: fresh models of the papers' size, and those that were trained here if they are finished
analyses() {
    local name trained=trained-seed$1 checkpoints=() fresh=(
        --arch b2t_transformer_wmt_en_de_18l --share-all-embeddings --seed "$1"
        --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    )
    analysis "fresh-seed$1" --residual post_ln,pre_ln,b2t -- "${fresh[@]}"
    [ "$1" != "${seeds[0]}" ] || analysis "all-seed$1" --residual all -- "${fresh[@]}"
    for name in post_ln pre_ln b2t; do
        [ -e "$out/${name}_18l/seed$1/score.txt" ] || return 0
        checkpoints+=("$out/${name}_18l/seed$1/checkpoint_last.pt")
    done
    # of runs that were deleted and done again
    for name in "${checkpoints[@]}"; do
        [ ! "$name" -nt "$out/analysis/$trained/analysis.json" ] || rm -rf "$out/analysis/$trained"
    done
    analysis "$trained" "${checkpoints[@]}"
}

stop() {
    local job
    for job in $(jobs -rp); do kill -- "-$job" || true; done
    wait
    exit 75
}

# settings CONFIG: the values of a configuration, whatever its comments say, and the flags of all trainings
settings() {
    (
        # shellcheck source=claims/configs/b2t_18l.sh
        . "$PROJECT/claims/configs/$1.sh"
        declare -p vocab_size max_update tokens_per_update max_tokens model training generation flags
    )
}

# before any run is begun
check_settings() {
    local seed name
    same_settings "$out/settings.txt" "$(settings _common)" "what is in $out"
    for name in "${configs[@]}"; do
        for seed in "${seeds[@]}"; do
            mkdir -p "$out/$name/seed$seed"
            same_settings "$out/$name/seed$seed/configuration.txt" "$(settings "$name")" "the run in $out/$name/seed$seed"
        done
    done
}

# a line for each run that ends; the others go on if one fails
all_runs() {
    local seed name
    for seed in "${seeds[@]}"; do
        for name in "${configs[@]}"; do
            while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
            one_run "$name" "$seed" &
        done
    done
    wait
    for seed in "${seeds[@]}"; do
        for name in "${configs[@]}"; do [ -e "$out/$name/seed$seed/score.txt" ] || failed+=("$name/seed$seed"); done
    done
}

failed=()
[ ${#configs[@]} -eq 0 ] || check_settings
say "corpus"
# with all cores, before the runs
env -u OMP_NUM_THREADS bash "$PROJECT/scripts/quickstart.sh" --corpus multi30k "${from[@]}" --config "$base" \
    --work "$out/corpus" --stop-stage 4
if [ ${#configs[@]} -gt 0 ]; then
    say "${#configs[@]} configurations, ${#seeds[@]} seed(s), $jobs at a time"
    # each run is a group of processes, so that a signal to this script ends all of it; the next call goes on with it
    set -m
    trap stop INT TERM
    all_runs
    trap - INT TERM
    set +m
fi
for extra in "${extras[@]}"; do
    case $extra in
        gradients)
            say "gradients by depth"
            for seed in "${seeds[@]}"; do analyses "$seed"; done
            ;;
        speed)
            say "speed"
            mkdir -p "$results"
            [ -e "$out/speed.json" ] ||
                env -u OMP_NUM_THREADS python "$PROJECT/benchmarks/sharing_speed.py" --output "$out/speed"
            cp "$out"/speed.{json,md} "$results"
            ;;
    esac
done
say "tables and figures"
python "$PROJECT/claims/gather.py" "$out" --results "$results"
python "$PROJECT/claims/figures.py" --results "$results"
if [ ${#flags[@]} -eq 0 ]; then
    python "$PROJECT/docs/build/write_tables.py"
    echo "written: docs/results.md, README.md, claims/results"
else
    python "$PROJECT/claims/tables.py" --results "$results"
    echo "numbers and figures: $results"
fi
[ ${#failed[@]} -eq 0 ] ||
    die "these runs failed, see driver.txt in their folders in $out; the same command tries again: ${failed[*]}"
