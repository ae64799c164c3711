# shellcheck shell=bash disable=SC2034
# B2T, 100-100 layers, 752M parameters; half as many updates as the others.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
max_update=25000
model+=(
    --arch b2t_transformer_wmt_en_de --residual b2t --depth-scaled-init
    --encoder-layers 100 --decoder-layers 100
    --encoder-word-dropout 0.1 --decoder-word-dropout 0.1
)
training+=(--dropout 0.5)
