# shellcheck shell=bash disable=SC2034
# The model of benchmarks/early_stopping/run.sh: B2T with 3-3 layers of width 128. The script sets alpha of R-Drop.
vocab_size=4000
# more than it takes until BLEU no longer improves
max_update=20000
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 3 --decoder-layers 3
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.2
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --max-tokens 1000 --lr-scheduler inverse_sqrt --lr 3e-3 --warmup-updates 400
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1 --r-drop "$R_DROP"
    --eval-bleu --eval-bleu-args '{"beam": 1}' --best-checkpoint-metric bleu --maximize-best-checkpoint-metric
    --patience 8 --keep-best-checkpoints 3
    --save-interval-updates 500 --keep-interval-updates 3 --no-epoch-checkpoints
)
average=(--best 3)
generation=(--beam 5 --lenpen 1.0)
