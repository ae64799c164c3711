# shellcheck shell=bash disable=SC2034
# What all translation models of the study have in common: mixed text in which no sentence comes twice, width 64. The grid
# (grid.py) adds scheme, depth, learning rate and number of updates.
vocab_size=2000
tokens_per_update=1000
max_tokens=1000
width=${STUDY_WIDTH:-64} heads=$((${STUDY_WIDTH:-64} < 512 ? 4 : 8))
model=(
    --arch b2t_transformer --share-all-embeddings
    --encoder-embed-dim "$width" --encoder-ffn-embed-dim $((4 * width))
    --encoder-attention-heads "$heads" --decoder-attention-heads "$heads"
    # every sentence is new, so there is nothing to regularize
    --dropout 0
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    # from the peak rate down to zero along a line
    --lr-scheduler polynomial_decay --end-learning-rate 0
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0
    --required-batch-size-multiple 1 --num-workers 0 --max-tokens-valid 4000
    --validate-interval 1000 --save-interval-updates 500 --keep-interval-updates 1 --no-epoch-checkpoints
)
