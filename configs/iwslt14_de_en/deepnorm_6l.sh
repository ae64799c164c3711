# shellcheck shell=bash disable=SC2034
# DeepNorm, 6-6 layers.
# shellcheck source=configs/iwslt14_de_en/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual deepnorm --encoder-layers 6 --decoder-layers 6)
