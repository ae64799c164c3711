# shellcheck shell=bash disable=SC2034
# docs/quickstart.ipynb without a GPU: 12-12 narrow layers for the corpus from a grammar, some minutes on two CPU cores.
vocab_size=1000
max_update=2000
# small batches, because with so little text the result depends on the number of updates
max_tokens=300
model=(
    --arch b2t_transformer --share-all-embeddings
    --encoder-layers 12 --decoder-layers 12
    --encoder-embed-dim 64 --encoder-ffn-embed-dim 128 --encoder-attention-heads 4 --decoder-attention-heads 4
    --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --lr 2e-3 --end-learning-rate 1e-5
    --warmup-updates 300 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1 --num-workers 1
    --save-interval-updates 400 --keep-interval-updates 1 --no-epoch-checkpoints
)
