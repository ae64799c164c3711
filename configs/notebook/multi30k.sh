# shellcheck shell=bash disable=SC2034
# docs/quickstart.ipynb with one GPU: 12-12 layers for Multi30k English-German, 29,000 captions. Not trained yet.
vocab_size=4000
max_update=2400
max_tokens=4096
model=(
    --arch b2t_transformer --share-all-embeddings
    --encoder-layers 12 --decoder-layers 12
    --encoder-embed-dim 256 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4 --decoder-attention-heads 4
    # high, because each caption is seen twenty times
    --dropout 0.3
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --lr 1.5e-3 --end-learning-rate 1e-5
    --warmup-updates 600 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1
    --save-interval-updates 200 --keep-interval-updates 1 --no-epoch-checkpoints
)
