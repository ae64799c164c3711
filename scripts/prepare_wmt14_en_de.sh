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
case $tokenization in
    sentencepiece) vocabulary=${vocabulary:-32768} ;;
    moses_bpe) vocabulary=${vocabulary:-32000} ;;
    *) die "--tokenization $tokenization: choose sentencepiece or moses_bpe" ;;
esac
case $news_commentary in v9 | v11) ;; *) die "--news-commentary $news_commentary: choose v9 or v11" ;; esac
for number in "$vocabulary" "$max_words" "$workers" "$first" "$last"; do
    [[ $number =~ ^[0-9]+$ ]] || die "$number is not a whole number; see --help"
done
[[ $max_ratio =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--max-ratio $max_ratio is not a number"
if [ "$first" -gt 5 ] || [ "$last" -lt 1 ] || [ "$last" -gt 5 ]; then die "the stages are 1 to 5; see --help"; fi
[ "$first" -le "$last" ] || die "--stage $first is after --stop-stage $last"
[ -z "$archives" ] || [ -d "$archives" ] || die "--archives $archives: no such folder"
[ -z "$archives" ] || [ ${#corpora[@]} -eq 0 ] || die "--archives and --corpus exclude each other"
[ -f "$table" ] || die "--table $table: no such file"
[ ${#corpora[@]} -eq "$(printf '%s\n' "${corpora[@]}" | sort -u | grep -c .)" ] || die "a --corpus is given twice"
for prefix in "${corpora[@]}"; do
    for language in en de; do
        [ -f "$prefix.$language" ] || [ -f "$prefix.$language.gz" ] ||
            die "--corpus $prefix: neither $prefix.$language nor $prefix.$language.gz exists"
    done
done
out=${out:-$PROJECT/data/wmt14_en_de}
mkdir -p "$out"
out=$(cd "$out" && pwd)
[[ $out != *,* ]] || die "--out $out: fairseq-preprocess splits file names at commas; give another folder"
archives=${archives:+$(cd "$archives" && pwd)}

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

say "setup"
# shellcheck disable=SC2119
run_setup
lock "$out/.lock" "another preparation is at work in $out; wait for it, or give another --out"
# not in all of $out, which may also contain runs
for part in "$out"/{test,raw,clean,tokens,subwords,pieces}; do [ ! -d "$part" ] || remove_unfinished "$part"; done
find "$out" -maxdepth 1 -type f -name '*.tmp[0-9]*' -delete
# with checksums, because a corpus that has changed is another setting
described=$(for prefix in "${corpora[@]}"; do
    for file in "$prefix".{en,de}{,.gz}; do
        [ ! -f "$file" ] || echo "corpus ${file##*/} $(sha256sum <"$file" | cut -d ' ' -f 1)"
    done
done)
same_settings "$out/settings.txt" "tokenization $tokenization
vocabulary $vocabulary
max-words $max_words
max-ratio $max_ratio
${described:-$(printf 'archive %s\n' "${names[@]}")}" "$out"

# archive_file I: the path of archive I
archive_file() {
    local name=${urls[$1]##*/}
    echo "${archives:-$out/archives}/$name"
}

download() {
    local i file known arguments=()
    for i in "${!urls[@]}"; do
        file=$(archive_file "$i")
        if [ -n "$archives" ]; then
            [ -f "$file" ] || die "--archives $archives: there is no ${file##*/}"
        fi
        known=${sums[i]}
        if [ "$known" = - ] && [ -f "$out/archives.sha256" ]; then
            known=$(awk -v name="${file##*/}" '$2 == name { print $1 }' "$out/archives.sha256")
        fi
        if [ -z "$archives" ]; then
            arguments+=("${urls[i]}" "$file" "${known:--}")
        elif [ -n "${known#-}" ]; then
            echo "$known  $file" | sha256sum --check --status - ||
                die "$file does not have the checksum $known; replace it, or delete $out/archives.sha256 if this file is intended"
        fi
    done
    [ ${#arguments[@]} -eq 0 ] || python "$PROJECT/scripts/corpus/fetch.py" "${arguments[@]}"
    python "$PROJECT/scripts/corpus/test_sets.py" "$out/test"
}

unpack() {
    local i file count status jobs=()
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
        [ "$status" -ne 0 ] || continue
        file=$(archive_file "$i")
        wait
        # 3: the archive is damaged; any other status: something else failed, for instance the disk
        [ "$status" -eq 3 ] || die "${file##*/} could not be unpacked, see above"
        [ -z "$archives" ] || die "$file cannot be used, see above; replace it"
        # kept for inspection, but under another name
        mv "$file" "$file.refused"
        rm -f "$out/.done/1-download"
        die "${file##*/} cannot be used, see above, and is now $file.refused; the same command downloads it again"
    done
    for i in "${!urls[@]}"; do
        file=$(archive_file "$i")
        echo "$(sha256sum <"$file" | cut -d ' ' -f 1)  ${file##*/}"
    done >"$out/archives.sha256.tmp"
    mv "$out/archives.sha256.tmp" "$out/archives.sha256"
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

# every_text FUNCTION FOLDER: run FUNCTION LANGUAGE FILE RESULT on training and test text
every_text() {
    local language file
    mkdir -p "$2"
    for language in en de; do
        for file in "$out/clean/train.$language" "$out"/test/newstest*."$language"; do
            "$1" "$language" "$file" "$2/${file##*/}"
        done
    done
}

encode_sentencepiece() { python "$PROJECT/scripts/corpus/spm.py" encode "$out/subwords/spm.model" "$2" "$3" --workers "$workers"; }
tokenize() { python "$PROJECT/scripts/corpus/moses_bpe.py" tokenize "$1" "$2" "$3" --workers "$workers"; }
apply_bpe() {
    python "$PROJECT/scripts/corpus/moses_bpe.py" apply "$out/subwords/bpe.codes" "$out/tokens/${2##*/}" "$3" --workers "$workers"
}

subwords() {
    mkdir -p "$out/subwords"
    if [ "$tokenization" = sentencepiece ]; then
        python "$PROJECT/scripts/corpus/spm.py" train "$out/subwords/spm" "$out/clean/train.en" "$out/clean/train.de" \
            --dictionary-size "$vocabulary"
        every_text encode_sentencepiece "$out/pieces"
    else
        every_text tokenize "$out/tokens"
        python "$PROJECT/scripts/corpus/moses_bpe.py" learn "$out/subwords/bpe.codes" "$out/tokens/train.en" \
            "$out/tokens/train.de" --merges "$vocabulary" --workers "$workers" 2>"$out/subwords/learn.log"
        every_text apply_bpe "$out/pieces"
    fi
}

binarize() {
    local new=$out/bin.tmp dictionary=() sets
    rm -rf "$new"
    # from SentencePiece's own list, so that its size does not depend on which pieces occur in the text
    [ "$tokenization" != sentencepiece ] || dictionary=(--srcdict "$out/subwords/spm.dict.txt")
    sets=("$out"/pieces/newstest*.en)
    # the plugin makes fairseq-preprocess faster
    quietly "$out/preprocess.log" fairseq-preprocess --user-dir "$PROJECT/b2t_fairseq" -s en -t de --joined-dictionary \
        --workers "$workers" "${dictionary[@]}" --destdir "$new" \
        --trainpref "$out/pieces/train" --validpref "$out/pieces/newstest2013" \
        --testpref "$(IFS=, && echo "${sets[*]%.en}")"
    # evaluate.sh needs to know which sets are test, test1, ..., and how tokens become text
    for file in "${sets[@]%.en}"; do echo "${file##*/}"; done >"$new/test_sets.txt"
    if [ "$tokenization" = sentencepiece ]; then
        cp "$out/subwords/spm.model" "$new"
        printf '%s\n' --remove-bpe sentencepiece >"$new/detokenize.txt"
    else
        cp "$out/subwords/bpe.codes" "$new"
        printf '%s\n' --remove-bpe --tokenizer moses >"$new/detokenize.txt"
    fi
    rm -rf "${out:?}/bin"
    mv "$new" "$out/bin"
}

write_manifest() {
    local files=()
    [ ! -f "$out/archives.sha256" ] || files+=("$out/archives.sha256")
    python "$PROJECT/scripts/corpus/manifest.py" "$out/manifest.json" "$out/settings.txt" "${files[@]}" \
        "$out/test" "$out/clean" "$out/subwords" "$out/bin"
}

stages=(download clean subwords binarize write_manifest)
for number in 1 2 3 4 5; do
    name=${stages[number - 1]}
    done_file=$out/.done/$number-$name
    if [ "$number" -lt "$first" ]; then
        [ -e "$done_file" ] || die "--stage $first: stage $number ($name) has not been done in $out; omit --stage"
        continue
    fi
    [ "$number" -gt "$last" ] && break
    # a stage that runs again makes all later stages run again
    if [ "$first" -gt 0 ]; then rm -f "$done_file"; fi
    say "$number/5 $name"
    if [ ! -e "$done_file" ]; then
        present=$(du -sm "$out" | cut -f 1)
        [ "$present" -ge "$need" ] || free_space "$out" $((need - present))
        for ((later = number + 1; later <= 5; later++)); do rm -f "$out/.done/$later-${stages[later - 1]}"; done
    fi
    stage "$out" "$number-$name" "$name"
done

[ "$last" -lt 5 ] || cat <<END

all results are in $out
train from       $out/bin (newstest2013 for validation, newstest2010 to 2016 for testing)
manifest         $out/manifest.json
can be deleted   archives, raw, clean, tokens, pieces: bin does not need them
next             bash scripts/train.sh configs/wmt14_en_de/b2t_18l_release.sh --data "$out/bin"
END
