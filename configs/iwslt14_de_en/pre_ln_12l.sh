# shellcheck shell=bash disable=SC2034
# Pre-LN, 12-12 layers.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual pre_ln --encoder-layers 12 --decoder-layers 12)
