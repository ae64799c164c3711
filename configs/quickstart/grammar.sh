# shellcheck shell=bash disable=SC2034
# The quickstart's corpus from a grammar: 24,000 short sentences, three minutes on two CPU cores.
vocab_size=1000
max_update=1800
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --layer-sharing cycle_rev
    --encoder-layers 4 --encoder-unique-layers 2
    --decoder-layers 4 --decoder-unique-layers 2
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    # small batches, because with so little text the result depends on the number of updates
    --max-tokens 600
    --lr-scheduler polynomial_decay --lr 3e-3 --end-learning-rate 1e-5
    --warmup-updates 300 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --save-interval-updates 200 --keep-interval-updates 4 --no-epoch-checkpoints
)
average=(--by updates --last 3)
generation=(--beam 5 --lenpen 1.0)
