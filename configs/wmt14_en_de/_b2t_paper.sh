# shellcheck shell=bash disable=SC2034
# The recipe of "B2T Connection: Serving Stability and Performance in Deep Transformers", arXiv 2206.00330.
# shellcheck source=configs/wmt14_en_de/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
training+=(--lr 1e-3 --warmup-updates 4000 --clip-norm 0.1 --keep-last-epochs 10)
