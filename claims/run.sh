#!/usr/bin/env bash
# Check the papers' claims on real text, with small models of full depth, on a CPU; write docs/results.md and its figures.
#
#   bash claims/run.sh [--only NAME[,NAME]] [--text DIR] [--seeds "1 2 3"] [--jobs N] [--out DIR] [--from DIR]
#                      [-- fairseq flags]
#
#   --only NAME     run only these parts of the study, or what these claims need (default: everything)
#   --text DIR      parallel text for the study: train.en, train.de, valid.en and valid.de, or the same with .gz. Without
#                   it the study's translation models are left out
#   --seeds "..."   seeds of the earlier runs (default: 1 2 3; fewer than three decide nothing)
#   --jobs N        runs at the same time, one core each (default: all cores)
#   --out DIR       where the runs go, as DIR/CONFIG/seedN, and DIR/study (default: runs/claims)
#   --from DIR      take Multi30k's files from DIR instead of downloading them
#   --list          print all names and what of the study is done, and end
#   fairseq flags   for every training of the earlier runs, for instance -- --max-update 20000 --total-num-update 20000.
#                   Then the numbers go to DIR/results and the tables are printed; the project's own numbers and pages do
#                   not change
#
# The study (claims/study/run.sh, --list has its parts) takes about 22 hours of one core. The earlier 60
# runs, which share one learning rate, take 5 to 30 minutes each, gradients and speed some minutes. A second call continues
# where the first one stopped; finished runs are not done again. How much time is left is printed after each run.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

only='' text='' seeds=(1 2 3) jobs=$(cores) out=$PROJECT/runs/claims from=() parts='' list='' flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --only) need_value "$@" && only=$2 && shift ;;
        --text) need_value "$@" && text=$2 && shift ;;
        --seeds) need_value "$@" && read -ra seeds <<<"$2" && shift ;;
        --jobs) need_count "$@" && jobs=$2 && shift ;;
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
[ ${#seeds[@]} -gt 0 ] || die "--seeds names no seed"
for seed in "${seeds[@]}"; do [[ $seed =~ ^[0-9]+$ ]] || die "--seeds: $seed is not a whole number"; done
[ -z "$text" ] || [ -d "$text" ] || die "--text $text: no such folder"
run_setup
if [ -n "$list" ]; then
    module claims.registry --list
    module claims.study.grid
    exit
fi
needed=$(module claims.registry --only "$only")
{ read -ra configs && read -ra extras && read -r parts; } <<<"$needed" || true
if [ -n "$parts" ] && [ ${#flags[@]} -gt 0 ]; then
    [ -z "$only" ] || die "--only $only: fairseq flags are for the earlier runs; for the study see claims/study/run.sh"
    parts=''
fi
if [ -z "$text" ] && [ -n "$parts" ] && [ "$parts" != depth ]; then
    [ -z "$only" ] || die "--only $only: the study's translation models need --text DIR; see --help"
    echo "without --text the study's translation models are left out"
    parts=depth
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
lock "$out/.lock" "another claims/run.sh is at work in $out; wait for it, or give another --out"
# 500 MB for the corpus and the analyses; a run of 18-18 layers has three checkpoints of 30 MB
free_space "$out" $((500 + 100 * ${#configs[@]} * ${#seeds[@]}))
plugin=$(b2t path)
results=$PROJECT/claims/results
[ ${#flags[@]} -eq 0 ] || results=$out/results
one_core_each
base=$PROJECT/claims/configs/b2t_18l.sh

# gave_up RUN: whether fairseq ended the run because of gradients that are not finite; such a run is a result too
gave_up() { [ -e "$1/checkpoint_last.pt" ] && b2t report "$1" --text 2>/dev/null | grep 'fairseq gave up' >/dev/null; }

# one_run CONFIG SEED: train, translate, score
one_run() {
    local config=$PROJECT/claims/configs/$1.sh run=$out/$1/seed$2 begin=$SECONDS generation=()
    [ ! -e "$run/score.txt" ] || return 0
    # a signal to the group also reaches train.sh, which writes its checkpoint first; so wait for it
    trap : INT TERM
    # shellcheck source=claims/configs/b2t_18l.sh
    . "$config"
    local command="bash scripts/train.sh claims/configs/$1.sh --data DIR --save-dir RUN --seed $2 --cpu${flags[*]:+ ${flags[*]}}"
    module claims.provenance "$run/provenance.json" "$command" || return
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

# analysis NAME ARGUMENTS...: run b2t analyze, unless it was run before
analysis() {
    local folder=$out/analysis/$1
    shift
    [ ! -e "$folder/analysis.json" ] || return 0
    mkdir -p "$out/analysis"
    # analyses run one after the other, so each gets all cores
    quietly "$folder.log" env -u OMP_NUM_THREADS b2t analyze --data "$out/corpus/data" --cpu --output "$folder" "$@"
    echo "analysis: $folder"
}

# analyses SEED: new models of the papers' size, and the models that were trained here if they are finished
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
    # an analysis that is older than a checkpoint is of an earlier run
    for name in "${checkpoints[@]}"; do
        [ ! "$name" -nt "$out/analysis/$trained/analysis.json" ] || rm -rf "$out/analysis/$trained"
    done
    analysis "$trained" "${checkpoints[@]}"
}

# settings CONFIG: the values of a configuration without its comments, and the flags of all trainings
settings() {
    (
        # shellcheck source=claims/configs/b2t_18l.sh
        . "$PROJECT/claims/configs/$1.sh"
        declare -p vocab_size max_update tokens_per_update max_tokens model training generation flags
    )
}

# check_settings: refuse to mix runs of different settings, before any run begins
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

# all_runs: print a line for each run that ends; if one fails, the others continue
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
if [ ${#configs[@]} -gt 0 ] || [ ${#extras[@]} -gt 0 ]; then
    say "corpus"
    # no run has begun, so this gets all cores
    env -u OMP_NUM_THREADS bash "$PROJECT/scripts/quickstart.sh" --corpus multi30k "${from[@]}" --config "$base" \
        --work "$out/corpus" --stop-stage 4
fi
if [ ${#configs[@]} -gt 0 ]; then
    say "${#configs[@]} configurations, ${#seeds[@]} seed(s), $jobs at a time"
    # each run is a group of processes, so that a signal to this script ends all of its processes; the next call continues
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
                (unset OMP_NUM_THREADS && module benchmarks.sharing_speed --output "$out/speed")
            cp "$out"/speed.{json,md} "$results"
            ;;
    esac
done
if [ -n "$parts" ]; then
    say "study: $parts"
    status=0
    pass_signals_on
    follow bash "$PROJECT/claims/study/run.sh" --only "$parts" ${text:+--text "$(realpath "$text")"} --jobs "$jobs" \
        --out "$out/study" --results "$results" || status=$?
    trap - USR1 TERM INT
    [ "$status" -ne 75 ] || exit 75
    [ "$status" -eq 0 ] || failed+=(study)
fi
say "tables and figures"
module claims.gather "$out" --results "$results"
module claims.figures --results "$results"
if [ ${#flags[@]} -eq 0 ]; then
    module docs.build.write_tables
    echo "written: docs/results.md, README.md, claims/results"
else
    module claims.tables --results "$results"
    echo "numbers and figures: $results"
fi
[ ${#failed[@]} -eq 0 ] ||
    die "these runs failed, see driver.txt in their folders in $out; the same command tries again: ${failed[*]}"
