#!/usr/bin/env bash
# Subwords drawn anew on Multi30k: one model with and without BPE-dropout, with three seeds.
#
#   bash benchmarks/sampling/run.sh --work DIR [--from DIR]
#
#   --work DIR   folder of all runs
#   --from DIR   Multi30k's files, as for scripts/quickstart.sh
#
# A second call continues where the first one stopped. The result is written by
#   python -m benchmarks.sampling_quality DIR --output benchmarks/results/sampling_quality
. "$(dirname "${BASH_SOURCE[0]}")/../multi30k.sh"

for seed in 1 2 3; do
    for sampling in '' 0.1; do
        SAMPLING_SEED=$seed SAMPLING=$sampling train "${sampling:-none}/seed$seed" model
    done
done
