#!/usr/bin/env bash
# Run the study that decides the claims on training, each model at its own best learning rate (claims/study/README.md).
#
#   bash claims/study/run.sh [--only PART[,PART]] [--text DIR] [--jobs N] [--runs N] [--width N] [--out DIR]
#                            [--results DIR] [-- fairseq flags]
#
#   --only PART     rates, warmup, seeds, longer, sharing, depth (default: all); --list shows what of them is done
#   --text DIR      parallel text for the translation models: train.en, train.de, valid.en and valid.de, or the same with
#                   .gz. Part depth needs none
#   --jobs N        runs at the same time, one core each (default: all cores; on a GPU: 1)
#   --runs N        end after N runs, the most important ones first (default: when all are done)
#   --width N       width of the models (default: 64). Another one is trained on a GPU, and its numbers go to OUT/results,
#                   since the grid and the rules are for 64
#   --out DIR       where corpora and runs go (default: runs/study)
#   --results DIR   where the numbers go (default: claims/results)
#   --list          say what of each part is done, and how long the rest takes; then end
#   fairseq flags   for every training, for a trial; then the numbers go to OUT/results, too
#
# The whole study takes about 22 hours of one core. A second call continues where the first one stopped; a run whose
# numbers are in the results is not done again. Signals end all runs; each of them continues with the next call.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

only='' text='' jobs='' out=$PROJECT/runs/study results='' list='' width=64 most='' flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --only) need_value "$@" && only=$2 && shift ;;
        --text) need_value "$@" && text=$2 && shift ;;
        --jobs) need_count "$@" && jobs=$2 && shift ;;
        --out) need_value "$@" && out=$2 && shift ;;
        --runs) need_count "$@" && most=$2 && shift ;;
        --width) need_value "$@" && width=$2 && shift ;;
        --results) need_value "$@" && results=$2 && shift ;;
        --list) list=1 ;;
        -h | --help) show_help ;;
        --)
            shift
            flags=("$@")
            break
            ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
[[ $width =~ ^[1-9][0-9]*$ ]] && [ $((width % 8)) -eq 0 ] || die "--width $width: give a multiple of 8"
[ -z "$text" ] || [ -d "$text" ] || die "--text $text: no such folder"
if [ "$width" -eq 64 ]; then
    device=(--cpu) cpu=(--cpu) jobs=${jobs:-$(cores)}
else
    device=(--gpus 1) cpu=() jobs=${jobs:-1}
fi
run_setup
mkdir -p "$out"
if [ -z "$results" ]; then
    results=$PROJECT/claims/results
    [ "$width" -eq 64 ] && [ ${#flags[@]} -eq 0 ] || results=$out/results
fi
mkdir -p "$results"
out=$(cd "$out" && pwd) results=$(cd "$results" && pwd)
if [ -n "$list" ]; then
    module claims.study.grid --only "$only" --results "$results"
    exit
fi
lock "$out/.lock" "another claims/study/run.sh is at work in $out; wait for it, or give another --out"
free_space "$out" $((500 + 100 * jobs))
export STUDY_WIDTH=$width # mix.sh and words.sh read it
one_core_each

# settings TASK: the values of a task's configuration without its comments
settings() {
    (
        # shellcheck source=claims/study/mix.sh
        . "$PROJECT/claims/study/$1.sh"
        declare -p model training max_tokens
    )
}

# pieces NAME: split train and valid into pieces
pieces() {
    local split language
    # shellcheck source=claims/study/mix.sh
    . "$PROJECT/claims/study/mix.sh"
    python "$PROJECT/scripts/corpus/spm.py" train "$1/spm" "$1/raw/train.en" "$1/raw/train.de" --vocab-size "$vocab_size"
    mkdir -p "$1/pieces"
    for split in train valid; do
        for language in en de; do
            python "$PROJECT/scripts/corpus/spm.py" encode "$1/spm.model" "$1/raw/$split.$language" "$1/pieces/$split.$language"
        done
    done
    module claims.study.unigrams "$1/pieces/train.de" "$1/pieces/valid.de" >"$1/unigrams.tmp"
    mv "$1/unigrams.tmp" "$1/unigrams.txt"
}

# copy_text FOLDER: the four files of --text, unpacked
copy_text() {
    local name
    [ -n "$text" ] || die "the translation models need --text DIR, parallel text in which no sentence comes twice; or --only depth"
    mkdir -p "$1/raw"
    for name in train.en train.de valid.en valid.de; do
        if [ -f "$text/$name.gz" ]; then
            gzip -dc "$text/$name.gz" >"$1/raw/$name.tmp"
        elif [ -f "$text/$name" ]; then
            cp "$text/$name" "$1/raw/$name.tmp"
        else
            die "--text $text: it has neither $name nor $name.gz"
        fi
        mv "$1/raw/$name.tmp" "$1/raw/$name"
    done
    for name in train valid; do
        python "$PROJECT/scripts/corpus/check_parallel.py" "$1/raw/$name.en" "$1/raw/$name.de"
    done
}

# binarize FOLDER SOURCE TARGET PREPROCESSING...: make fairseq's data in FOLDER/data
binarize() {
    local folder=$1 languages=(-s "$2" -t "$3")
    shift 3
    rm -rf "$folder/data.tmp"
    quietly "$folder/preprocess.log" fairseq-preprocess "${languages[@]}" --workers "$jobs" --destdir "$folder/data.tmp" "$@"
    rm -rf "$folder/data"
    mv "$folder/data.tmp" "$folder/data"
}

mix_corpus() {
    local folder=$out/mix
    mkdir -p "$folder"
    stage "$folder" text copy_text "$folder"
    stage "$folder" pieces pieces "$folder"
    stage "$folder" data binarize "$folder" en de --joined-dictionary --trainpref "$folder/pieces/train" --validpref "$folder/pieces/valid"
}

# words_corpus SEED: the words of one seed, and the same test words for all; as many as 4,600 updates take
words_corpus() {
    local folder=$out/words/seed$1
    mkdir -p "$folder"
    stage "$folder" words words_of "$folder" "$1"
    stage "$folder" data binarize "$folder" word product --trainpref "$folder/train" --validpref "$folder/valid" --testpref "$folder/test"
}
words_of() {
    module claims.study.word_problem --examples 300000 --seed "$2" --output "$1/train"
    module claims.study.word_problem --each 20 --seed 1000000 --output "$1/valid"
    module claims.study.word_problem --each 100 --seed 2000000 --output "$1/test"
}

# train RUN TASK DATA UPDATES FLAGS...: train up to a number of updates
train() {
    local run=$1 task=$2 data=$3 updates=$4
    shift 4
    bash "$PROJECT/scripts/train.sh" "$PROJECT/claims/study/$task.sh" --data "$data" --save-dir "$run" "${device[@]}" \
        --max-update "$updates" "$@" "${flags[@]}" >>"$run/driver.txt" 2>&1
}

# gave_up RUN: whether fairseq ended the run because of gradients that are not finite; such a run is a result too
gave_up() { [ -e "$1/train.log" ] && b2t report "$1" --text 2>/dev/null | grep 'fairseq gave up' >/dev/null; }

# one_run NAME TASK MODEL RATE SEED UPDATES FLAGS...: train, and note the numbers
one_run() {
    local name=$1 task=$2 scheme=$3 rate=$4 seed=$5 updates=$6 run=$out/runs/$1 begin=$SECONDS data unigrams=''
    shift 6
    # a signal to the group also reaches train.sh, which writes its checkpoint first; so wait for it
    trap : INT TERM
    mkdir -p "$run"
    if [ "$task" = mix ]; then
        data=$out/mix/data unigrams=$(cat "$out/mix/unigrams.txt")
    else
        data=$out/words/seed$seed/data
    fi
    printf '{"task": "%s", "model": "%s", "rate": "%s", "seed": %d, "updates": %d, "unigram_loss": %s, "settings": "%s"}\n' \
        "$task" "$scheme" "$rate" "$seed" "$updates" "${unigrams:-null}" "$(settings "$task" | sha256sum | cut -c 1-12)" \
        >"$run/cell.json"
    module claims.provenance "$run/provenance.json" \
        "bash scripts/train.sh claims/study/$task.sh --data DIR --save-dir RUN ${device[*]} --max-update $updates $*${flags[*]:+ ${flags[*]}}" || return
    # a model that has not learned anything in the first half of its updates is stopped there
    train "$run" "$task" "$data" $((updates / 2)) "$@" || gave_up "$run" || return
    if [ -z "$unigrams" ] || ! module claims.study.records --stop "$run" >>"$run/driver.txt"; then
        train "$run" "$task" "$data" "$updates" "$@" || gave_up "$run" || return
    fi
    if [ "$task" = words ]; then
        b2t generate "$data" --path "$run/checkpoint_last.pt" --gen-subset test "${cpu[@]}" --beam 1 --max-len-b 10 \
            --required-batch-size-multiple 1 --max-tokens 8000 >"$run/generated.tmp" 2>>"$run/driver.txt" || return
        mv "$run/generated.tmp" "$run/generated.txt"
    fi
    module claims.study.records "$run" || return
    rm -f "$run"/checkpoint*.pt
    echo "$name: $((SECONDS - begin)) s; $(gather)"
    module claims.study.grid --only "$only" --results "$results" | tail -n 1
}

# gather: add all numbers to the results; two runs may end at the same time
gather() { (flock 8 && module claims.study.records --gather "$out" --results "$results") 8>"$results/.lock"; }

# pass: run what is known to be needed now and was not tried before; fail if there is nothing
tried=' ' failed=()
pass() {
    local line fields new=()
    [ "$most" != 0 ] || return 1
    while read -r line; do
        [[ $tried == *" ${line%%$'\t'*} "* ]] || new+=("$line")
    done < <(module claims.study.grid --next --only "$only" --results "$results")
    [ ${#new[@]} -gt 0 ] || return 1
    if [ -n "$most" ]; then
        new=("${new[@]:0:most}")
        most=$((most - ${#new[@]}))
    fi
    say "${#new[@]} runs, $jobs at a time"
    for line in "${new[@]}"; do
        IFS=$'\t' read -ra fields <<<"$line"
        tried+="${fields[0]} "
        [ "${fields[1]}" != words ] || words_corpus "${fields[4]}"
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
        one_run "${fields[@]}" &
    done
    wait
    for line in "${new[@]}"; do
        [ -e "$out/runs/${line%%$'\t'*}/record.json" ] || failed+=("${line%%$'\t'*}")
    done
}

module claims.study.grid --only "$only" --results "$results"
[ "$only" = depth ] || mix_corpus
# each run is a group of processes, so that a signal to this script ends all of its processes; the next call continues
set -m
trap stop INT TERM USR1
while pass; do :; done
trap - INT TERM USR1
set +m
[ ${#failed[@]} -eq 0 ] ||
    die "these runs failed, see driver.txt in their folders in $out/runs; the same command tries again: ${failed[*]}"
