# shellcheck shell=bash disable=SC2034
# ResiDual, 6-6 layers, 61M parameters. Published average: 26.85.
# shellcheck source=configs/wmt14_en_de/_resi_dual_paper.sh
. "${BASH_SOURCE[0]%/*}/_resi_dual_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de --residual resi_dual)
