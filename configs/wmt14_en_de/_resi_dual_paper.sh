# shellcheck shell=bash disable=SC2034
# The recipe of "ResiDual: Transformer with Dual Residual Connections", arXiv 2304.14802.
# shellcheck source=configs/wmt14_en_de/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
# without clipping
training+=(--lr 1e-3 --warmup-updates 4000 --dropout 0.3 --weight-decay 1e-4 --keep-last-epochs 10)
