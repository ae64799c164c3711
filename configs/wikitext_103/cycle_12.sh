# shellcheck shell=bash disable=SC2034
# Cycle: 12 layers from 6 sets, 121M parameters. Published test perplexity: 19.69.
# shellcheck source=configs/wikitext_103/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--decoder-layers 12 --decoder-unique-layers 6 --layer-sharing cycle)
