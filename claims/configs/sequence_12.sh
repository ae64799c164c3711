# shellcheck shell=bash disable=SC2034
# Sequence: 12-12 Admin layers from 6 sets.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    --residual admin --layer-sharing sequence
    --encoder-layers 12 --decoder-layers 12 --encoder-unique-layers 6 --decoder-unique-layers 6
)
