#!/usr/bin/env bash
# Train and evaluate several configurations with several seeds, and compare them in one table.
#
#   bash scripts/sweep.sh [--seeds "1 2 3"] [--out DIR] [--data DIR] [--slurm] CONFIG... [-- fairseq flags]
#
#   CONFIG          for instance configs/wmt14_en_de/cycle_rev_12.sh; speeds are relative to the first one
#   --seeds "..."   seeds (default: 1)
#   --out DIR       folder of the runs, DIR/CONFIG/seedN (default: runs/sweep)
#   --data DIR      fairseq's binary data (default: data/NAME/bin, NAME being the configuration's folder)
#   --slurm         submit the runs as one SLURM array, and the table as a job after it, instead of running them here;
#                   SBATCH_... variables and scripts/slurm/sweep.sbatch set the resources of each run
#   fairseq flags   passed to every training, as in scripts/train.sh
#
# The table is DIR/table.md, .json and .tex: BLEU of each test set as mean and standard deviation over the seeds,
# parameters, and training speed relative to the first configuration. A second call skips the runs that are finished.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seeds=(1) out=$PROJECT/runs/sweep data=() slurm='' configs=() flags=() only=''
while [ $# -gt 0 ]; do
    case $1 in
        --seeds) need_value "$@" && read -ra seeds <<<"$2" && shift ;;
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
for flag in "${flags[@]}"; do
    case $flag in
        --save-dir | --save-dir=*) die "$flag after --: every run has a folder of its own; use --out DIR" ;;
        --seed | --seed=*) die "$flag after --: it would be the seed of all runs; use --seeds" ;;
    esac
done
for seed in "${seeds[@]}"; do [[ $seed =~ ^[0-9]+$ ]] || die "--seeds: $seed is not a whole number"; done
[ "$(printf '%s\n' "${seeds[@]}" | sort -u | wc -l)" -eq ${#seeds[@]} ] || die "--seeds ${seeds[*]}: a seed is there twice"
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

runs=()
for name in "${names[@]}"; do
    for seed in "${seeds[@]}"; do runs+=("$out/$name/seed$seed"); done
done
# a run that fails early has a line in the table too, so its folder must exist
mkdir -p "${runs[@]}"

# A signal that stops a training run stops the sweep after it, with exit status 75 as in train.sh: the same command
# continues.
pass_signals_on

# one_run I: train and evaluate
one_run() {
    local config=${configs[$1 / ${#seeds[@]}]} seed=${seeds[$1 % ${#seeds[@]}]}
    say "run $(($1 + 1)) of ${#runs[@]}: $config, seed $seed"
    local status=0
    { follow bash "$PROJECT/scripts/train.sh" "$config" "${data[@]}" --save-dir "${runs[$1]}" --seed "$seed" \
        "${flags[@]}" && follow bash "$PROJECT/scripts/evaluate.sh" "${runs[$1]}"; } || status=$?
    if [ -n "$stopped" ] || [ "$status" -eq 75 ]; then exit 75; fi
    return "$status"
}
table() {
    say "table"
    use_environment
    b2t table "${runs[@]}" --output "$out/table"
}

if [ -n "$slurm" ]; then
    again=("$PROJECT/scripts/slurm/sweep.sbatch" --seeds "${seeds[*]}" --out "$out" "${data[@]}" "${configs[@]}")
    [ ${#flags[@]} -eq 0 ] || again+=(-- "${flags[@]}")
    cd "$PROJECT"
    job=$(sbatch --parsable --array "0-$((${#runs[@]} - 1))" --output "$out/slurm-%A-%a.log" "${again[@]}")
    # the table is made after all runs have ended, successfully or not
    sbatch --parsable --dependency "afterany:${job%%;*}" --gpus-per-node 0 --time 00:30:00 \
        --output "$out/slurm-table.log" "${again[@]}" >"$out/table.job"
    echo "array ${job%%;*} with ${#runs[@]} runs, then table job $(cat "$out/table.job"): $out/table.md"
elif [ "$only" = table ]; then
    table
elif [ -n "$only" ]; then
    one_run "$only"
else
    failed=()
    for i in "${!runs[@]}"; do one_run "$i" || failed+=("${runs[i]}"); done
    status=0
    table || status=$?
    [ ${#failed[@]} -eq 0 ] || die "these runs failed, see train.log there; the same command tries again: ${failed[*]}"
    exit "$status"
fi
