# shellcheck shell=bash disable=SC2034
# Sequence: 12-12 Admin layers from 6 sets, 61M parameters. Published average: 27.13.
# shellcheck source=configs/wmt14_en_de/_sharing_paper.sh
. "${BASH_SOURCE[0]%/*}/_sharing_paper.sh"
model+=(
    --arch b2t_transformer_wmt_en_de --residual admin --layer-sharing sequence
    --encoder-layers 12 --encoder-unique-layers 6 --decoder-layers 12 --decoder-unique-layers 6
)
