# shellcheck shell=bash disable=SC2034
# What every row for IWSLT14 German-English has in common: the recipe of "ResiDual: Transformer with Dual Residual
# Connections", arXiv 2304.14802, with its model of width 256, for one GPU.
# Our choice: a fixed number of updates, after which the last epochs are averaged. The paper's release trains until BLEU
# on the validation set has not risen for 20 validations, and translates with the best checkpoint.
max_update=60000
tokens_per_update=4096
max_tokens=4096
model=(
    --arch b2t_transformer --share-all-embeddings
    --encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --encoder-attention-heads 4
    --decoder-embed-dim 256 --decoder-ffn-embed-dim 1024 --decoder-attention-heads 4
    --dropout 0.3 --attention-dropout 0.1 --activation-dropout 0.1
)
training=(
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --weight-decay 1e-4
    --lr-scheduler inverse_sqrt --lr 5e-4 --warmup-updates 4000 --warmup-init-lr 1e-7
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1
    --seed 1 --keep-last-epochs 10
    # fairseq's default, 8, drops sentences of the validation set
    --required-batch-size-multiple 1
)
average=(--by epochs --last 10)
# scripts/evaluate.sh adds the length penalty 1.0
generation=(--beam 5)
