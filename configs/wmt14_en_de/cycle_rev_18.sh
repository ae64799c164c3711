# shellcheck shell=bash disable=SC2034
# Cycle (rev): 18-18 Admin layers from 6 sets, 61M parameters. Published average: 27.31.
# shellcheck source=configs/wmt14_en_de/_sharing_paper.sh
. "${BASH_SOURCE[0]%/*}/_sharing_paper.sh"
model+=(
    --arch b2t_transformer_wmt_en_de --residual admin --layer-sharing cycle_rev
    --encoder-layers 18 --encoder-unique-layers 6 --decoder-layers 18 --decoder-unique-layers 6
)
