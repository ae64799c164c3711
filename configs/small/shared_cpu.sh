# shellcheck shell=bash disable=SC2034
# For CPU cores, a few hours and some hundred thousand pairs: B2T, 6-6 layers from 3 sets in the order cycle_rev.
#
# The rate stays at its peak until the last part of the updates. A longer run therefore need not begin anew: with another
# --save-dir, more --max-update and more --hold-steps it begins from a checkpoint of that part (--restore-file).
max_update=13000
tokens_per_update=2048
max_tokens=2048
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --layer-sharing cycle_rev --encoder-unique-layers 3 --decoder-unique-layers 3
    --encoder-layers 6 --decoder-layers 6
    --encoder-embed-dim 256 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4 --decoder-attention-heads 4
    # little, because a model that sees each pair once or twice hardly overfits
    --dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler tri_stage --lr 1.5e-3 --init-lr-scale 0.01 --final-lr-scale 0.01
    --warmup-steps 800 --hold-steps 9700 --decay-steps 2500
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1
    --save-interval-updates 500 --keep-interval-updates 4 --no-epoch-checkpoints
)
# the last checkpoint alone: those before it are from higher rates, and an average with them was worse in validation
average=(--by updates --last 1)
generation=(--beam 4 --max-tokens 4000)
