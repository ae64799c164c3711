# shellcheck shell=bash disable=SC2034
# Admin, 6-6 layers.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual admin --encoder-layers 6 --decoder-layers 6)
