# shellcheck shell=bash disable=SC2034
# Cycle of Admin layers: 12-12 layers from 6 sets.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    --residual admin --layer-sharing cycle
    --encoder-layers 12 --encoder-unique-layers 6 --decoder-layers 12 --decoder-unique-layers 6
)
