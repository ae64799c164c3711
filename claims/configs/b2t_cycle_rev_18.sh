# shellcheck shell=bash disable=SC2034
# B2T with Cycle (rev): 18-18 layers from 6 sets.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    --residual b2t --layer-sharing cycle_rev
    --encoder-layers 18 --decoder-layers 18 --encoder-unique-layers 6 --decoder-unique-layers 6
)
