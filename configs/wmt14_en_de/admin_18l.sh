# shellcheck shell=bash disable=SC2034
# Admin, 18-18 layers, 149M parameters. Published average: 26.86.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de_18l --residual admin)
training+=(--dropout 0.3)
