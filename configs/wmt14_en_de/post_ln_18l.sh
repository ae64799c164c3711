# shellcheck shell=bash disable=SC2034
# Post-LN, 18-18 layers, 149M parameters. It does not train: that is what the paper shows.
# shellcheck source=configs/wmt14_en_de/_b2t_paper.sh
. "${BASH_SOURCE[0]%/*}/_b2t_paper.sh"
model+=(--arch b2t_transformer_wmt_en_de_18l --residual post_ln)
training+=(--dropout 0.3)
