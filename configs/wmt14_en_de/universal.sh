# shellcheck shell=bash disable=SC2034
# Universal: one set of width 1024 used by all 6-6 Admin layers, 63M parameters. Published average: 26.90.
# shellcheck source=configs/wmt14_en_de/_sharing_paper.sh
. "${BASH_SOURCE[0]%/*}/_sharing_paper.sh"
model+=(
    --arch b2t_transformer_wmt_en_de_big --residual admin
    # with one set, all strategies give the same model
    --layer-sharing sequence --encoder-unique-layers 1 --decoder-unique-layers 1
)
