#!/usr/bin/env bash
# Distillation on Multi30k: a teacher with 6-6 layers, and a student with shared layers that learns from the teacher's
# translations, beside the same student that learns from the people's.
#
#   bash benchmarks/distillation/run.sh --work DIR [--from DIR]
#
#   --work DIR   folder of all runs
#   --from DIR   Multi30k's files, as for scripts/quickstart.sh
#
# A second call continues where the first one stopped. The result is written by
#   python -m benchmarks.distilling DIR --output benchmarks/results/distilling
. "$(dirname "${BASH_SOURCE[0]}")/../multi30k.sh"

train teacher teacher
use_environment
distilled=$work/distilled_text
mkdir -p "$distilled"
for file in train.en val.en val.de test_2016_flickr.en test_2016_flickr.de; do
    cp "$work/teacher/raw/$file" "$distilled/$file"
done
if [ ! -e "$distilled/train.de" ]; then
    begin=$SECONDS
    bash "$PROJECT/scripts/translate_corpus.sh" "$work/teacher" "$distilled/train.en" --output "$distilled/train.de"
    echo $((SECONDS - begin)) >"$work/translation_seconds.txt"
fi
train student student
train distilled student --from "$distilled"
