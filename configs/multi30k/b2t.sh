# shellcheck shell=bash disable=SC2034
# Multi30k English-German (29,000 captions): the small real task, under half an hour on two CPU cores.
vocab_size=4000
max_update=5200
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 3 --decoder-layers 3
    --encoder-embed-dim 256 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.15
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    # A CPU gains nothing from large batches, so small batches allow many updates. In ten epochs, a learning rate that
    # decays almost to zero improves the model more than averaging does.
    --max-tokens 1000
    --lr-scheduler polynomial_decay --lr 1.5e-3 --end-learning-rate 1e-5
    --warmup-updates 600 --total-num-update "$max_update"
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --save-interval-updates 200 --keep-interval-updates 4 --no-epoch-checkpoints
)
average=(--by updates --last 3)
generation=(--beam 5 --lenpen 1.0)
