# shellcheck shell=bash disable=SC2034
# The model of benchmarks/sampling/run.sh, for twenty epochs of Multi30k. The script sets the seed and the number of the
# sampling.
# shellcheck source=benchmarks/multi30k_model.sh
. "$(dirname "${BASH_SOURCE[0]}")/../multi30k_model.sh"
max_update=9000
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    # with room for the longer sentences of the sampling, so that an update has about as many sentences as without it
    --max-tokens "$([ -n "$SAMPLING" ] && echo 1700 || echo 1000)"
    --lr-scheduler polynomial_decay --lr 3e-3 --end-learning-rate 1e-5
    --warmup-updates 400 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --save-interval-updates 500 --keep-interval-updates 3 --no-epoch-checkpoints
    --seed "$SAMPLING_SEED" ${SAMPLING:+--subword-sampling "$SAMPLING"}
)
average=(--by updates --last 3)
