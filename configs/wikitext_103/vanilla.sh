# shellcheck shell=bash disable=SC2034
# Vanilla: 6 layers, 121M parameters. Published test perplexity: 21.13.
# shellcheck source=configs/wikitext_103/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(--decoder-layers 6)
