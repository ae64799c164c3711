#!/usr/bin/env bash
# R-Drop, early stopping and choice by BLEU on Multi30k: one model with and without R-Drop. Each is trained until BLEU in
# validation no longer improves, and the best checkpoints by BLEU are compared with the last ones.
#
#   bash benchmarks/early_stopping/run.sh --work DIR [--from DIR]
#
#   --work DIR   folder of all runs
#   --from DIR   Multi30k's files, as for scripts/quickstart.sh
#
# A second call continues where the first one stopped. The result is written by
#   python -m benchmarks.early_stopping_quality DIR --output benchmarks/results/early_stopping
. "$(dirname "${BASH_SOURCE[0]}")/../multi30k.sh"

# last NAME: translate with the average of the last checkpoints too
last() {
    local run=$work/$1
    [ ! -e "$run/last_score.txt" ] || return 0
    say "$1, the last checkpoints"
    b2t average "$run/run" --by updates --last 3 --output "$run/last.pt"
    quietly "$run/last_generate.log" b2t generate "$run/data" --path "$run/last.pt" --gen-subset test --beam 5 --lenpen 1.0 \
        --remove-bpe sentencepiece --required-batch-size-multiple 1 --max-tokens 4000 --results-path "$run/last"
    b2t score "$run/last/generate-test.txt" --reference "$run/raw/test_2016_flickr.de" --output "$run/last/hypotheses.de" \
        >"$run/last_score.txt.tmp"
    mv "$run/last_score.txt.tmp" "$run/last_score.txt"
}

for alpha in 0 5; do
    R_DROP=$alpha train "r_drop_$alpha" model
    use_environment
    last "r_drop_$alpha"
done
