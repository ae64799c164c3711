# shellcheck shell=bash disable=SC2034
# The student of benchmarks/distillation/run.sh: the teacher's model from two parameter sets, with fewer updates.
# shellcheck source=benchmarks/distillation/teacher.sh
. "$(dirname "${BASH_SOURCE[0]}")/teacher.sh"
max_update=600
model+=(--layer-sharing cycle_rev --encoder-unique-layers 2 --decoder-unique-layers 2)
training+=(--total-num-update "$max_update")
