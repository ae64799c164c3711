# shellcheck shell=bash disable=SC2034
# The settings that all runs of docs/results.md share: Multi30k, full depth, width 64, 5 to 30 minutes on one CPU core.
vocab_size=4000
max_update=2500
tokens_per_update=1000
max_tokens=1000
model=(
    --arch b2t_transformer --share-all-embeddings
    --encoder-embed-dim 64 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 --decoder-attention-heads 4
    # five epochs need no regularization, and a model learns more in them without dropout
    --dropout 0
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 0.1
    # the rate decays to almost zero: then checkpoints need no averaging, and seeds differ less
    --lr-scheduler polynomial_decay --lr 5e-3 --end-learning-rate 1e-5
    --warmup-updates 400 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1 --num-workers 0 --max-tokens-valid 4000
    --save-interval-updates 250 --validate-interval 100 --keep-interval-updates 1 --no-epoch-checkpoints
)
# a model that has not learned to end its sentences would write 200 words
generation=(--beam 4 --lenpen 1.0 --max-len-a 1.5 --max-len-b 20)
