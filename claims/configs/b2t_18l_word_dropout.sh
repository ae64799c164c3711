# shellcheck shell=bash disable=SC2034
# B2T, 18-18 layers, with the release's word dropout.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual b2t --encoder-layers 18 --decoder-layers 18 --encoder-word-dropout 0.1 --decoder-word-dropout 0.1)
