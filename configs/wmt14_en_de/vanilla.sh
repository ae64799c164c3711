# shellcheck shell=bash disable=SC2034
# Vanilla: Post-LN, 6-6 layers, 61M parameters. Published average: 26.57.
# shellcheck source=configs/wmt14_en_de/_sharing_paper.sh
. "${BASH_SOURCE[0]%/*}/_sharing_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de --residual post_ln)
