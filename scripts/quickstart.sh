#!/usr/bin/env bash
# From nothing to a scored translation model: set up, make or download a corpus, train a small B2T model, translate,
# score, and write a report of the training.
#
#   bash scripts/quickstart.sh [--corpus grammar|multi30k] [--from DIR] [--config FILE] [--work DIR]
#                              [--stop-stage N]
#
#   --corpus grammar   English-German made by the project's own grammar; needs no network except for pip (default)
#   --corpus multi30k  Multi30k captions from their public repository; the checksums are verified
#   --from DIR         read Multi30k's files (train.en.gz, ... or unpacked) from DIR instead of downloading them
#   --config FILE      the flags of another model (default: configs/quickstart/grammar.sh, configs/multi30k/b2t.sh)
#   --work DIR         folder of all results (default: runs/quickstart-CORPUS in the project)
#   --stop-stage N     stop after stage N of 7; the data are ready after stage 4
#
# A second call continues where the first one stopped.
# MULTI30K_URL is a mirror (https or file) of the folder with Multi30k's files.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

corpus=grammar from='' config='' work='' stop_stage=7
while [ $# -gt 0 ]; do
    case $1 in
        --corpus) need_value "$@" && corpus=$2 && shift ;;
        --from) need_value "$@" && from=$2 && shift ;;
        --config) need_value "$@" && config=$2 && shift ;;
        --work) need_value "$@" && work=$2 && shift ;;
        --stop-stage) need_value "$@" && stop_stage=$2 && shift ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
case $corpus in
    grammar) splits=(train valid test) default_config=configs/quickstart/grammar.sh ;;
    multi30k) splits=(train val test_2016_flickr) default_config=configs/multi30k/b2t.sh ;;
    *) die "--corpus $corpus: choose grammar or multi30k" ;;
esac
[[ $stop_stage =~ ^[1-7]$ ]] || die "--stop-stage $stop_stage: give a number from 1 to 7"
[ -z "$from" ] || [ "$corpus" = multi30k ] || die "--from $from: only --corpus multi30k takes files from a folder"
[ -z "$from" ] || [ -d "$from" ] || die "--from $from: no such folder"
config=${config:-$PROJECT/$default_config}
[ -f "$config" ] || die "--config $config: no such file"
config=$(realpath "$config")
work=${work:-$PROJECT/runs/quickstart-$corpus}
mkdir -p "$work"
work=$(cd "$work" && pwd)
from=${from:+$(cd "$from" && pwd)}
free_space "$work" 500

# a small model is slower with many threads than with a few
cores=$(cores)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores < 4 ? cores : 4))}
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore}
started=$SECONDS

# begin STAGE TITLE: print the title, or exit if --stop-stage names an earlier stage
begin() {
    [ "$1" -le "$stop_stage" ] || {
        echo "stopped after stage $stop_stage, as requested: $work"
        exit
    }
    say "$1/7 $2"
}

begin 1 setup
# shellcheck disable=SC2119
run_setup
plugin=$(b2t path)
# shellcheck source=configs/multi30k/b2t.sh
. "$config"
for name in vocab_size max_update; do
    [ -n "${!name:-}" ] || die "--config $config does not set $name, which the quickstart needs; see configs/quickstart"
done
started_training=$SECONDS

make_grammar() { python "$PROJECT/scripts/corpus/make_grammar_corpus.py" --out "$work/raw"; }

fetch_multi30k() {
    local url=${MULTI30K_URL:-https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw}
    local name sum arguments=()
    mkdir -p "$work/raw"
    while read -r sum name; do
        if [ -z "$from" ]; then
            arguments+=("$url/$name.gz" "$work/raw/$name.gz" "$sum")
        elif [ -f "$from/$name.gz" ]; then
            arguments+=("$from/$name.gz" "$work/raw/$name.gz" "$sum")
        elif [ -f "$from/$name" ]; then
            cp "$from/$name" "$work/raw/$name.tmp$$" && mv "$work/raw/$name.tmp$$" "$work/raw/$name"
        else
            die "--from $from: it has neither $name.gz nor $name"
        fi
    done <<'SUMS'
d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f train.en
726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6 train.de
14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28 val.en
f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a val.de
611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9 test_2016_flickr.en
9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8 test_2016_flickr.de
SUMS
    [ ${#arguments[@]} -eq 0 ] || python "$PROJECT/scripts/corpus/fetch.py" "${arguments[@]}"
    for name in "$work"/raw/*.gz; do
        [ -e "$name" ] || continue
        gzip -dc "$name" >"${name%.gz}.tmp$$"
        mv "${name%.gz}.tmp$$" "${name%.gz}"
    done
}

make_corpus() {
    if [ "$corpus" = grammar ]; then make_grammar; else fetch_multi30k; fi
    # messages name the files that were given, not their copies
    local shown=$work/raw split
    for split in "${splits[@]}"; do
        [ -z "$from" ] || [ -f "$from/$split.en.gz" ] || shown=$from
        python "$PROJECT/scripts/corpus/check_parallel.py" "$shown/$split.en" "$shown/$split.de"
    done
}

train_sentencepiece() {
    local train=$work/raw/${splits[0]} split language
    python "$PROJECT/scripts/corpus/spm.py" train "$work/spm" "$train.en" "$train.de" --vocab-size "$vocab_size"
    mkdir -p "$work/pieces"
    for split in "${splits[@]}"; do
        for language in en de; do
            python "$PROJECT/scripts/corpus/spm.py" encode "$work/spm.model" "$work/raw/$split.$language" "$work/pieces/$split.$language"
        done
    done
}

preprocess() {
    rm -rf "$work/data.tmp"
    quietly "$work/preprocess.log" fairseq-preprocess -s en -t de --joined-dictionary --workers "$cores" \
        --destdir "$work/data.tmp" --trainpref "$work/pieces/${splits[0]}" \
        --validpref "$work/pieces/${splits[1]}" --testpref "$work/pieces/${splits[2]}"
    rm -rf "$work/data"
    mv "$work/data.tmp" "$work/data"
}

# the whole log goes to train.log; the screen shows one short line for each report
train() {
    local status=0 reader
    # signals must stop the training, but not the processes that write its log
    exec 3> >(trap '' INT TERM USR1 && exec 9>&- && tee -a "$work/train.log" | python -m b2t_cli.runs.progress "$max_update")
    reader=$!
    pass_signals_on
    follow b2t train "$work/data" --user-dir "$plugin" --save-dir "$work/run" --distributed-world-size 1 \
        --seed 1 --num-workers 1 --required-batch-size-multiple 1 --log-format simple --log-interval 50 \
        --max-update "$max_update" "${model[@]}" "${training[@]}" >&3 2>&1 3>&- || status=$?
    trap - USR1 TERM INT
    exec 3>&-
    wait "$reader" || true
    if [ "$status" -eq 75 ]; then
        echo "stopped by a signal; the same command continues from the last checkpoint" >&2
        exit 75
    elif [ "$status" -ne 0 ]; then
        tail -n 20 "$work/train.log" >&2
        die "training failed; the whole log is $work/train.log. The same command continues from the last checkpoint, if there is one"
    fi
}

generate() {
    fairseq-generate "$work/data" --user-dir "$plugin" --path "$work/averaged.pt" --gen-subset test \
        --remove-bpe sentencepiece --required-batch-size-multiple 1 --max-tokens 4000 "${generation[@]}" \
        >"$work/generated.tmp" 2>"$work/generate.log" || {
        tail -n 20 "$work/generate.log" >&2
        die "fairseq-generate failed; the whole log is $work/generate.log"
    }
    mv "$work/generated.tmp" "$work/generated.txt"
}

# not every configuration sets all of these variables
settings=$(declare -p corpus vocab_size max_update model training average generation 2>/dev/null || true)
lock "$work/.lock" "another quickstart is at work in $work, or its training still runs; wait for it, or give another --work"
same_settings "$work/settings.txt" "$settings" "the run in $work"

test_set=$work/raw/${splits[2]}
begin 2 "corpus: $corpus"
stage "$work" corpus make_corpus
echo "$(wc -l <"$work/raw/${splits[0]}.en") training pairs, $(wc -l <"$test_set.en") test pairs"
begin 3 "SentencePiece, $vocab_size joint pieces (some seconds)"
stage "$work" sentencepiece train_sentencepiece
begin 4 "fairseq-preprocess (some seconds)"
stage "$work" preprocess preprocess
begin 5 "training: ${model[*]}"
stage "$work" train train
[ -z "$stopped" ] || exit 75
begin 6 "averaging, and translating ${splits[2]} (about half a minute)"
stage "$work" average b2t average "$work/run" --output "$work/averaged.pt" "${average[@]}"
stage "$work" generate generate
begin 7 "score on ${splits[2]}, and a report of the training"
b2t score "$work/generated.txt" --reference "$test_set.de" --output "$work/hypotheses.de" | tee "$work/score.txt"
quietly "$work/report.log" b2t report "$work" --output "$work/report"

say "some translations"
paste -d '\n' "$test_set.en" "$work/hypotheses.de" "$test_set.de" /dev/null | awk '
    BEGIN { split("source translation reference", name) }
    NR <= 12 { if ($0 == "") print ""; else printf "%-12s %s\n", name[(NR - 1) % 4 + 1], $0 }'

# what the README shows: the command, the end of the log, the score and the time, as measured here
write_summary() {
    local seconds command="bash scripts/quickstart.sh"
    [ "$corpus" = grammar ] || command+=" --corpus $corpus${from:+ --from DIR}"
    seconds=$(cat "$work"/.done/* | awk '{ sum += $1 } END { print sum }')
    cat <<END
\`\`\`
\$ $command
...
$(python -m b2t_cli.runs.progress "$max_update" <"$work/train.log" | tail -n 8)

$(cat "$work/score.txt")
\`\`\`

$(printf '%d:%02d' $((seconds / 60)) $((seconds % 60))) minutes after installation, of them $(cat "$work/.done/train") s of \
training, on $cores cores of $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo). \
Flags: [$(realpath --relative-to="$PROJECT" "$config")]($(realpath --relative-to="$PROJECT" "$config")).
END
}
write_summary >"$work/summary.md"
[ "${VIRTUAL_ENV:-}" != "$PROJECT/.venv" ] || activate="    source \"$PROJECT/.venv/bin/activate\"
"

cat <<END
== all results are in $work
model            averaged.pt (last checkpoint: run/checkpoint_last.pt)
translations     hypotheses.de, with scores in generated.txt
score            score.txt, summary.md
report           report/report.html (also curves as PNG and SVG)
training log     train.log
vocabulary       spm.model, data/dict.en.txt
time             $((SECONDS - started)) s, of them $((started_training - started)) s for the setup

Translate your own text:
${activate:-}    fairseq-interactive "$work/data" --user-dir "$plugin" --path "$work/averaged.pt" --beam 5 \\
        --bpe sentencepiece --sentencepiece-model "$work/spm.model"
END
echo
echo "the report of the training, to be opened in a browser: $work/report/report.html"
