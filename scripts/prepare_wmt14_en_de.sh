#!/usr/bin/env bash
# Prepare WMT14 English-German, from the raw archives to fairseq's binary data.
#
#   bash scripts/prepare_wmt14_en_de.sh [--out DIR] [options]
#
#   1 download  the three training archives (1.6 GB) and newstest2010 to 2016 (by sacreBLEU); only this needs a network
#   2 clean     unpack, check the number of pairs, remove pairs that are empty, too long or of very different lengths
#   3 subwords  joint SentencePiece pieces (or Moses tokens and BPE) of training, validation and test text
#   4 binarize  fairseq-preprocess with a joined dictionary; newstest2013 for validation, all seven sets for testing
#   5 manifest  counts, sizes and checksums of all files: manifest.json
#
#   --out DIR              folder of all results (default: data/wmt14_en_de in the project); train from DIR/bin
#   --archives DIR         read the archives from DIR instead of downloading them
#   --news-commentary V    v9 of WMT14 (default), or v11 of WMT16, from which the papers' text was made
#   --corpus PREFIX        use PREFIX.en and PREFIX.de (or .gz) instead of the archives; may be repeated
#   --tokenization T       sentencepiece (default), or moses_bpe as in the papers
#   --vocabulary N         sentencepiece: symbols of the dictionary (default: 32768); moses_bpe: merges (default: 32000)
#   --max-words N          longest sentence on either side, in words (default: 80)
#   --max-ratio R          largest ratio of the two sides' numbers of words (default: 9)
#   --workers N            number of processes (default: one for each core)
#   --stage N              begin with stage N, even if it is complete; --stop-stage M: stop after stage M
#   --table FILE           a table of other archives, in the format of scripts/corpus/wmt14_archives.tsv
#
# A second call continues where the first one stopped. Environment:
#   WMT_MIRROR  replaces https://www.statmt.org and https://data.statmt.org; http, https or file
#   SACREBLEU   sacreBLEU's cache of test sets (default: ~/.sacrebleu); a complete one needs no network
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/corpus/prepare_lib.sh
. "$PROJECT/scripts/corpus/prepare_lib.sh"

languages=(en de)
out='' archives='' news_commentary=v9 corpora=() tokenization=sentencepiece vocabulary='' first=0 last=5
max_words=80 max_ratio=9 workers=$(cores) table=$PROJECT/scripts/corpus/wmt14_archives.tsv
while [ $# -gt 0 ]; do
    case $1 in
        --out) need_value "$@" && out=$2 && shift ;;
        --archives) need_value "$@" && archives=$2 && shift ;;
        --news-commentary) need_value "$@" && news_commentary=$2 && shift ;;
        --corpus) need_value "$@" && corpora+=("$2") && shift ;;
        --tokenization) need_value "$@" && tokenization=$2 && shift ;;
        --vocabulary) need_value "$@" && vocabulary=$2 && shift ;;
        --max-words) need_value "$@" && max_words=$2 && shift ;;
        --max-ratio) need_value "$@" && max_ratio=$2 && shift ;;
        --workers) need_value "$@" && workers=$2 && shift ;;
        --stage) need_value "$@" && first=$2 && shift ;;
        --stop-stage) need_value "$@" && last=$2 && shift ;;
        --table) need_value "$@" && table=$2 && shift ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
check_options 32768 32000
case $news_commentary in v9 | v11) ;; *) die "--news-commentary $news_commentary: choose v9 or v11" ;; esac
[[ $max_words =~ ^[0-9]+$ ]] || die "$max_words is not a whole number; see --help"
[[ $max_ratio =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--max-ratio $max_ratio is not a number"
[ -z "$archives" ] || [ ${#corpora[@]} -eq 0 ] || die "--archives and --corpus exclude each other"
[ -f "$table" ] || die "--table $table: no such file"
[ ${#corpora[@]} -eq "$(printf '%s\n' "${corpora[@]}" | sort -u | grep -c .)" ] || die "a --corpus is given twice"
for prefix in "${corpora[@]}"; do
    for language in "${languages[@]}"; do
        [ -f "$prefix.$language" ] || [ -f "$prefix.$language.gz" ] ||
            die "--corpus $prefix: neither $prefix.$language nor $prefix.$language.gz exists"
    done
done
open_folder "$PROJECT/data/wmt14_en_de"

# the rows of the table that are needed
names=() urls=() members=() pairs=() sums=() megabytes=0
if [ ${#corpora[@]} -eq 0 ]; then
    while IFS=$'\t' read -r name url member count size sum || [ -n "$name" ]; do
        [[ $name == \#* ]] && continue
        [[ $size =~ ^[0-9]+$ ]] || die "--table $table: $name has no megabytes but $size"
        [[ $name == news-commentary-* && $name != news-commentary-"$news_commentary" ]] && continue
        [ -z "${WMT_MIRROR:-}" ] || url=${WMT_MIRROR%/}/${url#*//*/}
        names+=("$name") urls+=("$url") members+=("$member") pairs+=("$count") sums+=("$sum")
        megabytes=$((megabytes + size))
    done <"$table"
    [ ${#names[@]} -gt 0 ] || die "--table $table names no archive"
    # the archives, and the text unpacked, cleaned, in pieces and binary; measured on newspaper text
    need=$((megabytes * 6))
else
    for prefix in "${corpora[@]}"; do names+=("${prefix##*/}"); done
    for prefix in "${corpora[@]}"; do
        for language in en de; do
            file=$prefix.$language
            if [ -f "$file" ]; then factor=4; else file=$file.gz factor=10; fi
            megabytes=$((megabytes + factor * $(stat -Lc %s "$file") / 1000000))
        done
    done
    need=$megabytes
fi

# with checksums, because a corpus that has changed is another setting
described=$(for prefix in "${corpora[@]}"; do
    for file in "$prefix".{en,de}{,.gz}; do
        [ ! -f "$file" ] || echo "corpus ${file##*/} $(sha256sum <"$file" | cut -d ' ' -f 1)"
    done
done)
begin_work "tokenization $tokenization
vocabulary $vocabulary
max-words $max_words
max-ratio $max_ratio
${described:-$(printf 'archive %s\n' "${names[@]}")}"

download() {
    download_archives
    python "$PROJECT/scripts/corpus/test_sets.py" "$out/test"
}

unpack() {
    local i count status jobs=()
    mkdir -p "$out/raw"
    for i in "${!urls[@]}"; do
        count=()
        [ "${pairs[i]}" = - ] || count=(--pairs "${pairs[i]}")
        python "$PROJECT/scripts/corpus/unpack.py" "$(archive_file "$i")" "${members[i]}" "$out/raw/${names[i]}" "${count[@]}" &
        jobs+=($!)
    done
    for i in "${!jobs[@]}"; do
        status=0
        wait "${jobs[i]}" || status=$?
        [ "$status" -eq 0 ] || wait
        check_unpacked "$status" "$(archive_file "$i")"
    done
    note_checksums
}

clean() {
    local inputs=("${corpora[@]}")
    if [ ${#corpora[@]} -eq 0 ]; then
        unpack
        inputs=("${names[@]/#/$out/raw/}")
    fi
    mkdir -p "$out/clean"
    python "$PROJECT/scripts/corpus/clean.py" "$out/clean/train" "${inputs[@]}" \
        --max-words "$max_words" --max-ratio "$max_ratio" --workers "$workers"
}

# test_sets: the names of the test sets, in the order of the years
test_sets() {
    local file
    for file in "$out"/test/newstest*.en; do basename "$file" .en; done
}

tokenize() { python "$PROJECT/scripts/corpus/moses_bpe.py" tokenize "$1" "$2" "$3" --workers "$workers"; }

subwords() {
    local name texts=("$out/clean/train") tokens=("$out/tokens/train")
    for name in $(test_sets); do texts+=("$out/test/$name") tokens+=("$out/tokens/$name"); done
    mkdir -p "$out/subwords"
    if [ "$tokenization" = sentencepiece ]; then
        sentencepiece_pieces "${texts[@]}"
    else
        every_text tokenize "$out/tokens" "${texts[@]}"
        bpe_pieces "${tokens[@]}"
    fi
}

binarize() {
    local sets
    mapfile -t sets < <(test_sets)
    binarize_pieces newstest2013 "${sets[@]}"
    publish_binary
}

run_stages

[ "$last" -lt 5 ] || cat <<END

all results are in $out
train from       $out/bin (newstest2013 for validation, newstest2010 to 2016 for testing)
manifest         $out/manifest.json
can be deleted   archives, raw, clean, tokens, pieces: bin does not need them
next             bash scripts/train.sh configs/wmt14_en_de/b2t_18l_release.sh --data "$out/bin"
END
