# shellcheck shell=bash disable=SC2034
# The model of benchmarks/early_stopping/run.sh. The script sets alpha of R-Drop.
# shellcheck source=benchmarks/multi30k_model.sh
. "$(dirname "${BASH_SOURCE[0]}")/../multi30k_model.sh"
# more than it takes until BLEU no longer improves
max_update=20000
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --max-tokens 1000 --lr-scheduler inverse_sqrt --lr 3e-3 --warmup-updates 400
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1 --r-drop "$R_DROP"
    --eval-bleu --eval-bleu-args '{"beam": 1}' --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --patience 8 --keep-best-checkpoints 3
    --save-interval-updates 500 --keep-interval-updates 3 --no-epoch-checkpoints
)
average=(--best 3)
