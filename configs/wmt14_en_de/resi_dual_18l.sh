# shellcheck shell=bash disable=SC2034
# ResiDual, 18-18 layers, 149M parameters. Published average: 27.65.
# shellcheck source=configs/wmt14_en_de/_resi_dual_paper.sh
. "${BASH_SOURCE[0]%/*}/_resi_dual_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de_18l --residual resi_dual)
