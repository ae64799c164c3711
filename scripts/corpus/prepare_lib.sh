# shellcheck shell=bash disable=SC2154
# What the scripts scripts/prepare_*.sh share, from archives to fairseq's binary data, in five stages. Each sources it
# after lib.sh, and sets these variables:
#   out archives workers first last tokenization vocabulary   its options
#   languages          the source and the target language
#   urls sums          address and SHA-256 of each archive; a dash if it is not known
#   need               megabytes of disk space that all stages need
# A text is a PREFIX: the files PREFIX.LANGUAGE of both languages.

# check_options SENTENCEPIECE MOSES_BPE: check what all of them have; the two numbers are the defaults of --vocabulary
check_options() {
    local number
    case $tokenization in
        sentencepiece) vocabulary=${vocabulary:-$1} ;;
        moses_bpe) vocabulary=${vocabulary:-$2} ;;
        *) die "--tokenization $tokenization: choose sentencepiece or moses_bpe" ;;
    esac
    for number in "$vocabulary" "$workers" "$first" "$last"; do
        [[ $number =~ ^[0-9]+$ ]] || die "$number is not a whole number; see --help"
    done
    if [ "$first" -gt 5 ] || [ "$last" -lt 1 ] || [ "$last" -gt 5 ]; then die "the stages are 1 to 5; see --help"; fi
    [ "$first" -le "$last" ] || die "--stage $first is after --stop-stage $last"
    [ -z "$archives" ] || [ -d "$archives" ] || die "--archives $archives: no such folder"
}

# open_folder DEFAULT: make the folder of all results, and turn the folders' names into complete paths
open_folder() {
    out=${out:-$1}
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    [[ $out != *,* ]] || die "--out $out: fairseq-preprocess splits file names at commas; give another folder"
    archives=${archives:+$(cd "$archives" && pwd)}
}

# begin_work SETTINGS: install what is missing, lock the folder, clear what a killed call left, and compare the settings
begin_work() {
    local part
    say "setup"
    # shellcheck disable=SC2119
    run_setup
    lock "$out/.lock" "another preparation is at work in $out; wait for it, or give another --out"
    # not in all of $out, which may also contain runs
    for part in "$out"/{test,raw,clean,tokens,subwords,pieces}; do [ ! -d "$part" ] || remove_unfinished "$part"; done
    find "$out" -maxdepth 1 -type f -name '*.tmp[0-9]*' -delete
    same_settings "$out/settings.txt" "$1" "$out"
}

# archive_file I: the path of archive I
archive_file() {
    local name=${urls[$1]##*/}
    echo "${archives:-$out/archives}/$name"
}

# download_archives: fetch the archives, or check that --archives has them, with the checksums that are known
download_archives() {
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
}

# check_unpacked STATUS FILE: stop if the program that unpacked the archive FILE ended with an exit status that is not 0
check_unpacked() {
    [ "$1" -ne 0 ] || return 0
    # 3: the archive is damaged; any other status: something else failed, for instance the disk
    [ "$1" -eq 3 ] || die "${2##*/} could not be unpacked, see above"
    [ -z "$archives" ] || die "$2 cannot be used, see above; replace it"
    # kept for inspection, but under another name
    mv "$2" "$2.refused"
    rm -f "$out/.done/1-download"
    die "${2##*/} cannot be used, see above, and is now $2.refused; the same command downloads it again"
}

# note_checksums: from now on the archives must be the same
note_checksums() {
    local i file
    for i in "${!urls[@]}"; do
        file=$(archive_file "$i")
        echo "$(sha256sum <"$file" | cut -d ' ' -f 1)  ${file##*/}"
    done >"$out/archives.sha256.tmp"
    mv "$out/archives.sha256.tmp" "$out/archives.sha256"
}

# every_text FUNCTION FOLDER PREFIX...: run FUNCTION LANGUAGE FILE RESULT on both sides of each text
every_text() {
    local function=$1 folder=$2 language prefix
    shift 2
    mkdir -p "$folder"
    for language in "${languages[@]}"; do
        for prefix in "$@"; do "$function" "$language" "$prefix.$language" "$folder/${prefix##*/}.$language"; done
    done
}

encode_sentencepiece() { python "$PROJECT/scripts/corpus/spm.py" encode "$out/subwords/spm.model" "$2" "$3" --workers "$workers"; }
apply_bpe() { python "$PROJECT/scripts/corpus/moses_bpe.py" apply "$out/subwords/bpe.codes" "$2" "$3" --workers "$workers"; }

# sentencepiece_pieces TRAIN PREFIX...: train a joint model on the text TRAIN; write the pieces of it and of all others
sentencepiece_pieces() {
    python "$PROJECT/scripts/corpus/spm.py" train "$out/subwords/spm" "$1.${languages[0]}" "$1.${languages[1]}" \
        --dictionary-size "$vocabulary"
    every_text encode_sentencepiece "$out/pieces" "$@"
}

# bpe_pieces TRAIN PREFIX...: the same by BPE; the texts are tokens
bpe_pieces() {
    python "$PROJECT/scripts/corpus/moses_bpe.py" learn "$out/subwords/bpe.codes" "$1.${languages[0]}" "$1.${languages[1]}" \
        --merges "$vocabulary" --workers "$workers" 2>"$out/subwords/learn.log"
    every_text apply_bpe "$out/pieces" "$@"
}

# binarize_pieces VALID TEST...: write fairseq's binary data, DIR/bin.tmp, of the texts with these names
binarize_pieces() {
    local new=$out/bin.tmp dictionary=() prefixes=() valid=$1 name
    shift
    for name in "$@"; do prefixes+=("$out/pieces/$name"); done
    rm -rf "$new"
    # from SentencePiece's own list, so that its size does not depend on which pieces occur in the text
    [ "$tokenization" != sentencepiece ] || dictionary=(--srcdict "$out/subwords/spm.dict.txt")
    # the plugin makes fairseq-preprocess faster
    quietly "$out/preprocess.log" fairseq-preprocess --user-dir "$PROJECT/b2t_fairseq" \
        -s "${languages[0]}" -t "${languages[1]}" --joined-dictionary \
        --workers "$workers" "${dictionary[@]}" --destdir "$new" \
        --trainpref "$out/pieces/train" --validpref "$out/pieces/$valid" \
        --testpref "$(IFS=, && echo "${prefixes[*]}")"
    # evaluate.sh needs to know the languages, which sets are test, test1, ..., and how tokens become text
    echo "${languages[*]}" >"$new/languages.txt"
    printf '%s\n' "$@" >"$new/test_sets.txt"
    if [ "$tokenization" = sentencepiece ]; then
        cp "$out/subwords/spm.model" "$new"
        printf '%s\n' --remove-bpe sentencepiece >"$new/detokenize.txt"
    else
        cp "$out/subwords/bpe.codes" "$new"
        printf '%s\n' --remove-bpe --tokenizer moses >"$new/detokenize.txt"
    fi
}

# publish_binary: give DIR/bin.tmp its name, when it is complete
publish_binary() {
    rm -rf "${out:?}/bin"
    mv "$out/bin.tmp" "$out/bin"
}

write_manifest() {
    local files=()
    [ ! -f "$out/archives.sha256" ] || files+=("$out/archives.sha256")
    python "$PROJECT/scripts/corpus/manifest.py" "$out/manifest.json" "$out/settings.txt" "${files[@]}" \
        "$out/test" "$out/clean" "$out/subwords" "$out/bin"
}

# run_stages: run the stages --stage to --stop-stage that are not complete
run_stages() {
    local stages=(download clean subwords binarize write_manifest) number name done_file present later
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
}
