# shellcheck shell=bash disable=SC2034
# For two CPU cores, an hour and some hundred thousand pairs: B2T, 3-3 layers; each pair is seen once or twice.
max_update=6000
tokens_per_update=1024
max_tokens=1024
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 3 --decoder-layers 3
    --encoder-embed-dim 256 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4 --decoder-attention-heads 4
    # little, because a model that sees each pair once does not overfit
    --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --lr 1.5e-3 --end-learning-rate 1e-5
    --warmup-updates 800 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1
    # seldom, because validation is slow on a CPU
    --save-interval-updates 1000 --keep-interval-updates 4 --no-epoch-checkpoints
)
average=(--by updates --last 3)
generation=(--beam 4 --max-tokens 4000)
