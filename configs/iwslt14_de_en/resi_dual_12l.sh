# shellcheck shell=bash disable=SC2034
# ResiDual, 12-12 layers. Published: 36.09.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual resi_dual --encoder-layers 12 --decoder-layers 12)
