#!/usr/bin/env bash
# Train and evaluate several configurations with several seeds and several values of flags, and compare them.
#
#   bash scripts/sweep.sh [--grid "--lr 5e-4 1e-3 2e-3"] [--seeds "1 2 3"] [--train-only] [--out DIR] [--data DIR]
#                         [--slurm] CONFIG... [-- fairseq flags]
#
#   CONFIG          for instance configs/wmt14_en_de/cycle_rev_12.sh; speeds are relative to the first one
#   --grid "..."    a flag of fairseq and its values; each configuration is trained with each of them. Several --grid:
#                   with each combination
#   --seeds "..."   seeds (default: 1)
#   --train-only    translate and score nothing; data without test sets needs this
#   --out DIR       folder of the runs (default: runs/sweep): DIR/CONFIG/seedN, or DIR/CONFIG,lr=1e-3/seedN with a grid
#   --data DIR      fairseq's binary data (default: data/NAME/bin, NAME being the configuration's folder)
#   --slurm         submit the runs as one SLURM array, and the table as a job after it, instead of running them here;
#                   SBATCH_... variables and scripts/slurm/sweep.sbatch set the resources of each run
#   fairseq flags   passed to every training, as in scripts/train.sh
#
# The table is DIR/table.md, .json and .tex: BLEU of each test set as mean and standard deviation over the seeds,
# parameters, and training speed relative to the first configuration. For each --grid, DIR/against_FLAG is the report of
# b2t report --against: validation loss against the flag's values. A second call skips the runs that are finished.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seeds=(1) grids=() out=$PROJECT/runs/sweep data=() train_only='' slurm='' configs=() flags=() only=''
while [ $# -gt 0 ]; do
    case $1 in
        --grid) need_value "$@" && grids+=("$2") && shift ;;
        --seeds) need_value "$@" && read -ra seeds <<<"$2" && shift ;;
        --train-only) train_only=1 ;;
        --out) need_value "$@" && out=$2 && shift ;;
        --data) need_value "$@" && data=(--data "$(realpath "$2")") && shift ;;
        --slurm) slurm=1 ;;
        # used by sweep.sbatch: the number of one run, or "table"
        --only) need_value "$@" && only=$2 && shift ;;
        -h | --help) show_help ;;
        --)
            shift
            flags=("$@")
            break
            ;;
        -*) die "unknown option $1; see --help (fairseq's flags come after --)" ;;
        *) configs+=("$(realpath "$1")") ;;
    esac
    shift
done
[ ${#configs[@]} -gt 0 ] || die "no configuration given; see --help"
[ ${#seeds[@]} -gt 0 ] || die "--seeds names no seed"

# refuse_flag FLAG WHERE: stop if it is one that each run needs for itself
refuse_flag() {
    case $1 in
        --save-dir | --save-dir=*) die "$1 $2: every run has a folder of its own; use --out DIR" ;;
        --seed | --seed=*) die "$1 $2: it would be the seed of all runs; use --seeds" ;;
    esac
}
for flag in "${flags[@]}"; do refuse_flag "$flag" "after --"; done
for seed in "${seeds[@]}"; do [[ $seed =~ ^[0-9]+$ ]] || die "--seeds: $seed is not a whole number"; done

# twice WORDS...: print a word that is there twice
twice() { printf '%s\n' "$@" | sort | uniq -d | head -n 1; }
[ -z "$(twice "${seeds[@]}")" ] || die "--seeds ${seeds[*]}: a seed is there twice"

# the combinations of the grids' values: the end of the runs' name (",lr=1e-3"), and the flags ("--lr 1e-3")
point_names=('') point_flags=('') grid_settings=()
for grid in "${grids[@]}"; do
    read -ra words <<<"$grid"
    flag=${words[0]:-} values=("${words[@]:1}")
    [[ $flag =~ ^--[a-z][a-z0-9-]*$ ]] ||
        die "--grid \"$grid\": the first word is a flag, the others are its values: --grid \"--lr 1e-3 2e-3\""
    refuse_flag "$flag" "in --grid"
    [ ${#values[@]} -gt 0 ] || die "--grid \"$grid\": give the values of $flag"
    [ -z "$(twice "${values[@]}")" ] || die "--grid \"$grid\": $(twice "${values[@]}") is there twice"
    for given in "${flags[@]}"; do
        [ "${given%%=*}" != "$flag" ] || die "$flag is in --grid and after --; give it in one place"
    done
    setting=$(sed 's/^--//; s/-/_/g' <<<"$flag")
    [[ " ${grid_settings[*]} " != *" $setting "* ]] || die "two --grid are of $flag; give all of its values in one"
    grid_settings+=("$setting")
    longer_names=() longer_flags=()
    for i in "${!point_names[@]}"; do
        for value in "${values[@]}"; do
            [[ $value =~ ^[A-Za-z0-9.+_-]+$ ]] ||
                die "--grid \"$grid\": $value cannot be in a folder's name; write a configuration for it instead"
            longer_names+=("${point_names[i]},$setting=$value")
            longer_flags+=("${point_flags[i]} $flag $value")
        done
    done
    point_names=("${longer_names[@]}") point_flags=("${longer_flags[@]}")
done

names=()
for config in "${configs[@]}"; do
    [ -f "$config" ] || die "$config: no such configuration"
    name=$(basename "$config" .sh)
    [[ " ${names[*]} " != *" $name "* ]] ||
        die "two configurations are named $name; their runs would be written to the same folder"
    names+=("$name")
done
mkdir -p "$out"
out=$(cd "$out" && pwd)

# run I has the folder runs[I], the configuration run_configs[I], the flags run_flags[I] and the seed run_seeds[I]
runs=() run_configs=() run_flags=() run_seeds=()
for c in "${!configs[@]}"; do
    for p in "${!point_names[@]}"; do
        for seed in "${seeds[@]}"; do
            runs+=("$out/${names[c]}${point_names[p]}/seed$seed")
            run_configs+=("${configs[c]}") run_flags+=("${point_flags[p]}") run_seeds+=("$seed")
        done
    done
done
# a run that fails early has a line in the table too, so its folder must exist
mkdir -p "${runs[@]}"

# A signal that stops a training run stops the sweep after it, with exit status 75 as in train.sh: the same command
# continues.
pass_signals_on

# one_run I: train and evaluate
one_run() {
    local run=${runs[$1]} seed=${run_seeds[$1]} point=()
    read -ra point <<<"${run_flags[$1]}"
    say "run $(($1 + 1)) of ${#runs[@]}: ${run_configs[$1]}${point[*]:+ ${point[*]}}, seed $seed"
    local status=0
    follow bash "$PROJECT/scripts/train.sh" "${run_configs[$1]}" "${data[@]}" --save-dir "$run" --seed "$seed" \
        "${point[@]}" "${flags[@]}" || status=$?
    if [ "$status" -eq 0 ] && [ -z "$train_only$stopped" ]; then
        follow bash "$PROJECT/scripts/evaluate.sh" "$run" || status=$?
    fi
    if [ -n "$stopped" ] || [ "$status" -eq 75 ]; then exit 75; fi
    return "$status"
}

# results: the table of scores, and a report for each grid
results() {
    local status=0 setting run logged=()
    use_environment
    if [ -z "$train_only" ]; then
        say "table"
        b2t table "${runs[@]}" --output "$out/table" || status=$?
    fi
    for run in "${runs[@]}"; do [ ! -e "$run/train.log" ] || logged+=("$run"); done
    for setting in "${grid_settings[@]}"; do
        say "against $setting"
        if [ ${#logged[@]} -eq 0 ]; then
            echo "no run has a train.log: nothing to report on"
            status=1
            continue
        fi
        b2t report "${logged[@]}" --against "$setting" --output "$out/against_$setting" || status=$?
    done
    return "$status"
}

if [ -n "$slurm" ]; then
    again=("$PROJECT/scripts/slurm/sweep.sbatch" --seeds "${seeds[*]}" --out "$out" "${data[@]}")
    for grid in "${grids[@]}"; do again+=(--grid "$grid"); done
    again+=(${train_only:+--train-only} "${configs[@]}")
    [ ${#flags[@]} -eq 0 ] || again+=(-- "${flags[@]}")
    cd "$PROJECT"
    job=$(sbatch --parsable --array "0-$((${#runs[@]} - 1))" --output "$out/slurm-%A-%a.log" "${again[@]}")
    # the table is made after all runs have ended, successfully or not
    sbatch --parsable --dependency "afterany:${job%%;*}" --gpus-per-node 0 --time 00:30:00 \
        --output "$out/slurm-table.log" "${again[@]}" >"$out/table.job"
    echo "array ${job%%;*} with ${#runs[@]} runs, then table job $(cat "$out/table.job"): $out/table.md"
elif [ "$only" = table ]; then
    results
elif [ -n "$only" ]; then
    one_run "$only"
else
    failed=()
    for i in "${!runs[@]}"; do one_run "$i" || failed+=("${runs[i]}"); done
    status=0
    results || status=$?
    [ ${#failed[@]} -eq 0 ] || die "these runs failed, see above and train.log there; the same command tries again: ${failed[*]}"
    exit "$status"
fi
