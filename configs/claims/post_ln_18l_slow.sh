# shellcheck shell=bash disable=SC2034
# Post-LN, 18-18 layers, a quarter of the learning rate: is it the rate that makes Post-LN fail?
# shellcheck source=configs/claims/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual post_ln --encoder-layers 18 --decoder-layers 18)
training+=(--lr 5e-4)
