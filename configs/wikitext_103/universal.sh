# shellcheck shell=bash disable=SC2034
# Universal: one set used by all 6 layers, 121M parameters. Published test perplexity: 23.84.
# shellcheck source=configs/wikitext_103/_common.sh
. "${BASH_SOURCE[0]%/*}/_common.sh"
model+=(
    # with one set, all strategies give the same model
    --decoder-layers 6 --decoder-unique-layers 1 --layer-sharing sequence
    # we do not know the paper's width; this width gives the paper's number of parameters
    --decoder-embed-dim 1792 --decoder-ffn-embed-dim 7552 --decoder-attention-heads 16
)
