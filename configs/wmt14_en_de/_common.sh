# shellcheck shell=bash disable=SC2034
# What every row of the papers' WMT English-German tables has in common.
max_update=50000
# an update has at most so many tokens on each side: 8 GPUs x 3,584 tokens x 16, or 4 x 3,584 x 32
tokens_per_update=458752
max_tokens=3584
model=(--share-all-embeddings)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --weight-decay 0
    --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7 --stop-min-lr 1e-9
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1
    # fairseq's default, 8, drops sentences of the validation set
    --required-batch-size-multiple 1
)
average=(--by epochs --last 10)
# scripts/evaluate.sh adds the length penalty, which depends on the test set: 0.6 for newstest2014, 1.0 for the others
generation=(--beam 4)
