# shellcheck shell=bash disable=SC2034
# The model that several drivers train on Multi30k, and how it translates: B2T with 3-3 layers of width 128.
vocab_size=4000
model=(
    --arch b2t_transformer --residual b2t --share-all-embeddings
    --encoder-layers 3 --decoder-layers 3
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4
    --decoder-attention-heads 4 --dropout 0.2
)
generation=(--beam 5 --lenpen 1.0)
