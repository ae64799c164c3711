#!/usr/bin/env bash
# Subwords drawn anew on Multi30k: one model with and without BPE-dropout, with three seeds.
#
#   bash benchmarks/sampling/run.sh --work DIR [--from DIR] [--number P]
#
#   --work DIR   folder of all runs
#   --from DIR   Multi30k's files, as for scripts/quickstart.sh
#   --number P   the number of --subword-sampling (default: 0.1)
#
# A second call continues where the first one stopped. The result is written by
#   python -m benchmarks.sampling_quality DIR --output benchmarks/results/sampling_quality
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

work='' from=() number=0.1
while [ $# -gt 0 ]; do
    case $1 in
        --work) need_value "$@" && work=$2 && shift ;;
        --from) need_value "$@" && from=(--from "$2") && shift ;;
        --number) need_value "$@" && number=$2 && shift ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
[ -n "$work" ] || die "--work DIR is missing; see --help"

for seed in 1 2 3; do
    for sampling in '' "$number"; do
        say "seed $seed, ${sampling:-no} sampling"
        SAMPLING_SEED=$seed SAMPLING=$sampling bash "$PROJECT/scripts/quickstart.sh" --corpus multi30k "${from[@]}" \
            --config "$PROJECT/benchmarks/sampling/model.sh" --work "$work/${sampling:-none}/seed$seed"
    done
done
