# shellcheck shell=bash disable=SC2034
# B2T, 18-18 layers, with the release's depth-scaled initialization.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual b2t --encoder-layers 18 --decoder-layers 18 --depth-scaled-init)
