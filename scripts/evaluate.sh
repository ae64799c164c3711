#!/usr/bin/env bash
# Average the last checkpoints of a run, translate the test sets of its data, score, and print the papers' rows next to it.
#
#   bash scripts/evaluate.sh RUN [--data DIR] [--last N | --best K] [--sets "NAME ..."] [--comet | --comet-model MODEL]
#       [fairseq-generate flags]
#
#   RUN               a run's folder, written by scripts/train.sh
#   --data DIR        fairseq's binary data (default: what the run was trained on)
#   --last N          how many checkpoints to average (default: the configuration's number)
#   --best K          average the K checkpoints with the best validations instead, see b2t average --help
#   --sets "NAME ..." only these test sets, for instance "newstest2014 newstest2016"
#   --comet           also compute COMET, after scripts/setup.sh --comet
#   --comet-model MODEL  the same with this model: a name at Hugging Face, or the folder of a downloaded one
#   flags             passed to b2t generate, for instance --fp16, --max-tokens 8000, or on a CPU --int8 or --bf16
#
# All results are written to RUN/evaluation: averaged.pt; for each test set the output of fairseq-generate and the
# translations; scores.json, scores.md, scores.tex. A second call continues where the first one stopped. The length
# penalty is 0.6 for newstest2014 and 1.0 for the other sets, as in the papers. References come with the data, or from
# sacreBLEU for newstest2010 to 2016; the variable SACREBLEU is the folder of its cache of test sets.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
    "" | -h | --help) show_help ;;
    -*) die "the run comes first: bash scripts/evaluate.sh RUN ...; see --help" ;;
esac
[ -d "$1" ] || die "$1: no such run"
run=$(cd "$1" && pwd)
shift
data='' last=() best=() sets=() comet=() extra_flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --data) need_value "$@" && data=$2 && shift ;;
        --last) need_value "$@" && last=(--last "$2") && shift ;;
        --best) need_value "$@" && best=(--best "$2") && shift ;;
        --sets) need_value "$@" && read -ra sets <<<"$2" && shift ;;
        --comet) comet=(--comet "${comet[@]:1}") ;;
        --comet-model) need_value "$@" && comet=(--comet "$2") && shift ;;
        --path | --path=* | --gen-subset | --gen-subset=* | --results-path | --results-path=*)
            die "$1: the averaged model translates the test sets into RUN/evaluation; see --last and --sets"
            ;;
        -h | --help) show_help ;;
        *) extra_flags+=("$1") ;;
    esac
    shift
done
[ -n "$data" ] || [ ! -f "$run/data.txt" ] || data=$(cat "$run/data.txt")
[ -n "$data" ] || die "$run does not say which data it was trained on; give --data"
[ -f "$data/test_sets.txt" ] ||
    die "--data $data: there is no test_sets.txt; make data with test sets by scripts/prepare_wmt14_en_de.sh" \
        "or scripts/prepare_iwslt14_de_en.sh"
data=$(cd "$data" && pwd)
use_environment

# replaced by the configuration's values, if the run has a configuration
average=(--by epochs --last 10) generation=(--beam 4)
# shellcheck disable=SC1091
[ ! -f "$run/settings.sh" ] || . "$run/settings.sh"
[ ${#best[@]} -eq 0 ] || average=("${best[@]}")
mapfile -t names <"$data/test_sets.txt"
mapfile -t detokenize <"$data/detokenize.txt"
languages=(en de) # of data that do not say it
[ ! -f "$data/languages.txt" ] || read -ra languages <"$data/languages.txt"
for name in "${sets[@]}"; do
    printf '%s\n' "${names[@]}" | grep -qx -- "$name" || die "--sets $name: $data has ${names[*]}"
done
# what is missing is said before the translating
if [ ${#comet[@]} -gt 0 ]; then
    ! grep -qs '"lower_cased_tokens": true' "$data/references/about.json" ||
        die "--comet: the translations of $data are in lower case, for which COMET's scores mean nothing"
    python -m b2t_cli.scoring.comet "${comet[@]:1}"
fi
[ ${#sets[@]} -gt 0 ] || sets=("${names[@]}")

evaluation=$run/evaluation
lock "$run/.evaluation.lock" "another evaluation is at work in $run; wait until it ends"
newest=$run/checkpoint_last.pt
# a run with --no-last-checkpoints does not have that file
[ -f "$newest" ] ||
    newest=$(find "$run" -maxdepth 1 -name 'checkpoint*.pt' -printf '%T@ %p\n' | sort -n | sed -n '$s/^[^ ]* //p')
[ -n "$newest" ] || die "$run has no checkpoint: it is not a run's folder, or the run has not saved one yet"
# results of other checkpoints or settings are kept under another name
settings="$data ${average[*]} ${last[*]} ${generation[*]} ${extra_flags[*]} $(stat -Lc '%Y %s' "$newest")"
if [ -d "$evaluation" ] && [ "$(cat "$evaluation/settings.txt" 2>/dev/null)" != "$settings" ]; then
    number=1
    while [ -e "$evaluation.previous$number" ]; do number=$((number + 1)); done
    mv "$evaluation" "$evaluation.previous$number"
    echo "the earlier evaluation used other checkpoints or settings; it is kept as $evaluation.previous$number"
fi
mkdir -p "$evaluation"
remove_unfinished "$evaluation"
printf '%s\n' "$settings" >"$evaluation/settings.txt"
# b2t score finds them there, also where the data are not
if [ -d "$data/references" ] && [ ! -d "$evaluation/references" ]; then
    rm -rf "$evaluation/references.tmp"
    cp -r "$data/references" "$evaluation/references.tmp"
    mv "$evaluation/references.tmp" "$evaluation/references"
fi

say "average"
if [ -e "$evaluation/averaged.pt" ]; then
    echo "done before"
else
    b2t average "$run" "${average[@]}" "${last[@]}" --output "$evaluation/averaged.pt"
fi

# subset I: fairseq's name for test set I of the data
subset() { if [ "$1" -eq 0 ]; then echo test; else echo "test$1"; fi; }

# rename_finished: give complete translations the names of their test sets
rename_finished() {
    local i
    for i in "${!names[@]}"; do
        [ ! -e "$evaluation/generate-$(subset "$i").txt" ] ||
            mv "$evaluation/generate-$(subset "$i").txt" "$evaluation/${names[i]}.generated.txt"
    done
}

say "translate"
rename_finished
subsets=() lenpen=() wanted=()
for i in "${!names[@]}"; do
    if [[ " ${sets[*]} " == *" ${names[i]} "* ]] && [ ! -e "$evaluation/${names[i]}.generated.txt" ]; then
        subsets+=("$(subset "$i")")
        wanted+=("${names[i]}")
        [ "${names[i]}" != newstest2014 ] || lenpen=(--subset-lenpen "$(subset "$i")=0.6")
    fi
done
if [ ${#subsets[@]} -eq 0 ]; then
    echo "done before"
else
    echo "${wanted[*]}"
    # without processes that load data: they need five seconds to end, for each test set
    quietly "$evaluation/generate.log" b2t generate "$data" -s "${languages[0]}" -t "${languages[1]}" \
        --path "$evaluation/averaged.pt" --num-workers 0 \
        --gen-subset "$(IFS=, && echo "${subsets[*]}")" --results-path "$evaluation" \
        --required-batch-size-multiple 1 --max-tokens 8000 "${detokenize[@]}" "${generation[@]}" \
        --lenpen 1.0 "${lenpen[@]}" "${extra_flags[@]}"
    rename_finished
fi

say "score"
b2t score "$run" "${comet[@]}"
