# shellcheck shell=bash disable=SC2034
# The recipe of "Lessons on Parameter Sharing across Layers in Transformers", arXiv 2104.06022.
# shellcheck source=configs/wmt14_en_de/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
# without clipping; if a model diverges, the paper adds --clip-norm 1.0
training+=(--lr 2e-3 --warmup-updates 8000 --dropout 0.3 --keep-last-epochs 20)
