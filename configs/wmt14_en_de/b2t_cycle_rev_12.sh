# shellcheck shell=bash disable=SC2034
# B2T with Cycle (rev): 12-12 layers from 6 sets, 61M parameters. Neither paper tried it.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(
    --arch b2t_transformer_wmt_en_de --residual b2t --layer-sharing cycle_rev
    --encoder-layers 12 --encoder-unique-layers 6 --decoder-layers 12 --decoder-unique-layers 6
)
training+=(--dropout 0.3)
