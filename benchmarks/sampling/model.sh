# shellcheck shell=bash disable=SC2034
# The model of benchmarks/sampling/run.sh: B2T with 3-3 layers of width 128, twenty epochs of Multi30k.
# The script sets the seed and the number of the sampling.
vocab_size=4000
max_update=9000
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 3 --decoder-layers 3
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.2
)
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
generation=(--beam 5 --lenpen 1.0)
