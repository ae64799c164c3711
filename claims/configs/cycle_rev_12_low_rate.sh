# shellcheck shell=bash disable=SC2034
# Cycle (rev): 12-12 Admin layers from 6 sets, at the sharing paper's learning rate.
# shellcheck source=claims/configs/cycle_rev_12.sh
. "${BASH_SOURCE[0]%/*}/cycle_rev_12.sh"
training+=(--lr 2e-3)
