# shellcheck shell=bash disable=SC2034
# What all models of the word problem have in common (word_problem.py): 64 words of equal length an update, each word new.
max_tokens=4000
width=${STUDY_WIDTH:-64} heads=$((${STUDY_WIDTH:-64} < 512 ? 4 : 8))
model=(
    --arch b2t_transformer --share-decoder-input-output-embed
    --encoder-embed-dim "$width" --encoder-ffn-embed-dim $((4 * width))
    --encoder-attention-heads "$heads" --decoder-attention-heads "$heads"
    --dropout 0
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --end-learning-rate 0
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0
    --required-batch-size-multiple 1 --num-workers 0 --batch-size 64 --batch-size-valid 400
    --validate-interval 1000 --save-interval-updates 500 --keep-interval-updates 1 --no-epoch-checkpoints
)
