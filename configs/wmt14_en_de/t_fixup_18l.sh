# shellcheck shell=bash disable=SC2034
# T-Fixup, 18-18 layers, 149M parameters. Published average: 26.94.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de_18l --residual t_fixup)
training+=(--dropout 0.3)
