# shellcheck shell=bash disable=SC2034
# The deep model of benchmarks/growing.py: 6-6 layers of width 64, some minutes on one CPU core.
vocab_size=2000
max_update=315
tokens_per_update=500
max_tokens=500
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 6 --decoder-layers 6
    --encoder-embed-dim 64 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4 --decoder-attention-heads 4
    --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --lr 3e-3 --end-learning-rate 1e-5
    --warmup-updates 50 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --save-interval-updates 50 --keep-interval-updates 1 --no-epoch-checkpoints
)
average=(--by updates --last 1)
generation=(--beam 4 --max-tokens 4000)
