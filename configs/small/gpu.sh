# shellcheck shell=bash disable=SC2034
# For one GPU and some hundred thousand pairs: B2T, 6-6 layers, no gradient accumulation.
max_update=20000
tokens_per_update=16384
max_tokens=16384
model=(
    --arch b2t_transformer_iwslt_de_en --residual b2t --share-all-embeddings
    # high, because a model overfits so little text soon
    --dropout 0.3 --encoder-word-dropout 0.1 --decoder-word-dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler inverse_sqrt --lr 1e-3 --warmup-updates 4000 --warmup-init-lr 1e-7
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --required-batch-size-multiple 1
    --save-interval-updates 1000 --keep-interval-updates 5 --no-epoch-checkpoints
)
average=(--by updates --last 5)
generation=(--beam 4)
