# shellcheck shell=bash disable=SC2034
# Admin, 6-6 layers, 61M parameters. Published average: 26.49.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de --residual admin)
training+=(--dropout 0.3)
