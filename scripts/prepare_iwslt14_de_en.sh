#!/usr/bin/env bash
# Prepare IWSLT14 German-English, from the raw archive to fairseq's binary data, as the papers have it.
#
#   bash scripts/prepare_iwslt14_de_en.sh [--out DIR] [options]
#
#   1 download  the archive de-en.tgz (20 MB); only this needs a network
#   2 clean     unpack, remove the tags, tokenize, leave out long and unequal pairs, take every 23rd pair for validation;
#               the numbers of lines are checked: 160,239 for training, 7,283 for validation, 6,750 for testing
#   3 subwords  joint BPE of lower-cased Moses tokens (or SentencePiece pieces of text as it is)
#   4 binarize  fairseq-preprocess with a joined dictionary, and the references for scripts/evaluate.sh
#   5 manifest  counts, sizes and checksums of all files: manifest.json
#
#   --out DIR              folder of all results (default: data/iwslt14_de_en in the project); train from DIR/bin
#   --archives DIR         read de-en.tgz from DIR instead of downloading it
#   --tokenization T       moses_bpe in lower case, as in the papers (default), or sentencepiece with upper and lower case
#   --vocabulary N         moses_bpe: merges (default: 10000); sentencepiece: symbols of the dictionary (default: 10000)
#   --workers N            number of processes (default: one for each core)
#   --stage N              begin with stage N, even if it is complete; --stop-stage M: stop after stage M
#   --lines FILE           the numbers of lines of another archive, in the format of scripts/corpus/iwslt14_lines.tsv
#
# A second call continues where the first one stopped. Environment:
#   IWSLT_MIRROR  replaces https://dl.fbaipublicfiles.com; http, https or file
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/corpus/prepare_lib.sh
. "$PROJECT/scripts/corpus/prepare_lib.sh"

languages=(de en)
out='' archives='' tokenization=moses_bpe vocabulary='' first=0 last=5 workers=$(cores)
lines=$PROJECT/scripts/corpus/iwslt14_lines.tsv
while [ $# -gt 0 ]; do
    case $1 in
        --out) need_value "$@" && out=$2 && shift ;;
        --archives) need_value "$@" && archives=$2 && shift ;;
        --tokenization) need_value "$@" && tokenization=$2 && shift ;;
        --vocabulary) need_value "$@" && vocabulary=$2 && shift ;;
        --workers) need_value "$@" && workers=$2 && shift ;;
        --stage) need_value "$@" && first=$2 && shift ;;
        --stop-stage) need_value "$@" && last=$2 && shift ;;
        --lines) need_value "$@" && lines=$2 && shift ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
check_options 10000 10000
[ -f "$lines" ] || die "--lines $lines: no such file"
open_folder "$PROJECT/data/iwslt14_de_en"
# Where fairseq's own recipe downloads it. No checksum is published; the numbers of lines are checked.
mirror=${IWSLT_MIRROR:-https://dl.fbaipublicfiles.com}
urls=("${mirror%/}/fairseq/data/iwslt14/de-en.tgz") sums=(-)
need=400
begin_work "tokenization $tokenization
vocabulary $vocabulary
lines $(sha256sum <"$lines" | cut -d ' ' -f 1)"
program=$PROJECT/scripts/corpus/iwslt14.py

download() { download_archives; }

tokenize() { python "$PROJECT/scripts/corpus/moses_bpe.py" tokenize "$1" "$2" "$3" --as-perl --workers "$workers"; }

# The papers leave pairs out by their numbers of Moses tokens, so all text is tokenized, also for SentencePiece.
clean() {
    local status=0
    python "$program" extract "$(archive_file 0)" "$out/raw" --lines "$lines" || status=$?
    check_unpacked "$status" "$(archive_file 0)"
    note_checksums
    every_text tokenize "$out/raw/tokens" "$out/raw/train" "$out/raw/iwslt14"
    python "$program" split "$out/raw" "$out" --lines "$lines"
}

subwords() {
    mkdir -p "$out/subwords"
    if [ "$tokenization" = sentencepiece ]; then
        sentencepiece_pieces "$out/clean/train" "$out/clean/valid" "$out/test/iwslt14"
    else
        bpe_pieces "$out/tokens/train" "$out/tokens/valid" "$out/tokens/iwslt14"
    fi
}

binarize() {
    local references=$out/bin.tmp/references moses=false
    binarize_pieces valid iwslt14
    [ "$tokenization" = sentencepiece ] || moses=true
    mkdir "$references"
    cp "$out/test/iwslt14.de" "$out/test/iwslt14.en" "$references"
    cp "$out/tokens/iwslt14.en" "$references/iwslt14.tokens.en"
    printf '{"language_pair": "de-en", "sets": ["iwslt14"], "lower_cased_tokens": %s}\n' "$moses" >"$references/about.json"
    publish_binary
}

run_stages

[ "$last" -lt 5 ] || cat <<END

all results are in $out
train from       $out/bin (every 23rd pair for validation, five sets of talks as one for testing)
manifest         $out/manifest.json
can be deleted   archives, raw, clean, tokens, pieces: bin does not need them
next             bash scripts/train.sh configs/iwslt14_de_en/b2t_6l.sh --data "$out/bin"
END
