# shellcheck shell=bash disable=SC2034
# Cycle (rev): 18-18 Admin layers from 6 sets.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    --residual admin --layer-sharing cycle_rev
    --encoder-layers 18 --decoder-layers 18 --encoder-unique-layers 6 --decoder-unique-layers 6
)
