# shellcheck shell=bash disable=SC2034
# Universal Transformer: 6-6 Admin layers from one set, of twice the width; as many parameters as 6 sets.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    --residual admin --encoder-layers 6 --decoder-layers 6
    # with one set all strategies give the same model
    --layer-sharing sequence --encoder-unique-layers 1 --decoder-unique-layers 1
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 8 --decoder-attention-heads 8
)
