# shellcheck shell=bash disable=SC2034
# ResiDual, 6-6 layers. Published: 35.63.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual resi_dual --encoder-layers 6 --decoder-layers 6)
