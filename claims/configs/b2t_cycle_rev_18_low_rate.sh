# shellcheck shell=bash disable=SC2034
# B2T with Cycle (rev): 18-18 layers from 6 sets, at the sharing paper's learning rate.
# shellcheck source=claims/configs/b2t_cycle_rev_18.sh
. "${BASH_SOURCE[0]%/*}/b2t_cycle_rev_18.sh"
training+=(--lr 2e-3)
