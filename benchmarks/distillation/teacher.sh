# shellcheck shell=bash disable=SC2034
# The teacher of benchmarks/distillation/run.sh: B2T with 6-6 layers of width 128, on Multi30k.
vocab_size=4000
max_update=1500
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 6 --decoder-layers 6
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 256 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --max-tokens 1000
    --lr-scheduler polynomial_decay --lr 3e-3 --end-learning-rate 1e-5
    --warmup-updates 300 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --save-interval-updates 100 --keep-interval-updates 3 --no-epoch-checkpoints
)
average=(--by updates --last 3)
generation=(--beam 5 --lenpen 1.0)
