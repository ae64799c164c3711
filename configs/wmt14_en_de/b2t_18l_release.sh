# shellcheck shell=bash disable=SC2034
# B2T, 18-18 layers, 149M parameters, as in the release of 2023. Published average: 27.52.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(
    --arch b2t_transformer_wmt_en_de_18l --residual b2t --depth-scaled-init
    --encoder-word-dropout 0.1 --decoder-word-dropout 0.1
)
training+=(--dropout 0.5)
