# shellcheck shell=bash disable=SC2034
# Vanilla (big): Post-LN, 6-6 layers of width 1024, 210M parameters. Published average: 26.81.
# shellcheck source=configs/wmt14_en_de/_sharing_paper.sh
. "${BASH_SOURCE[0]%/*}/_sharing_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de_big --residual post_ln)
