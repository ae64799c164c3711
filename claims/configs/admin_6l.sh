# shellcheck shell=bash disable=SC2034
# Admin, 6-6 layers: the sharing paper's row between Vanilla (post_ln_6l.sh) and the shared ones.
# shellcheck source=claims/configs/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--residual admin --encoder-layers 6 --decoder-layers 6)
