#!/usr/bin/env bash
# The first hour on a GPU: check that it computes what it should, then time training and translation against fairseq.
#
#   bash benchmarks/gpu.sh [--only PART]... [--out DIR] [--device cuda|cpu] [--tiny]
#
#   --only PART    run this part, again if its result is there (default: all parts whose results are not there)
#   --out DIR      where the results go (default: benchmarks/results/gpu, which docs/speed.md shows)
#   --device cpu   try the script without a GPU
#   --tiny         with models so small that their numbers mean nothing
#
# Parts, each of less than ten minutes on an H100:
#   parity      loss and gradient of every scheme and strategy, float32 on the GPU (TF32 off) against float64 on the CPU
#   compile     --compile against the same model without it, and how often it compiles
#   resume      a bf16 run that was stopped and continued against one that was not
#   parallel    two processes against one, where there are two GPUs
#   memory      the memory of an update against the count that scripts/train.sh chooses --max-tokens by
#   training_6l, training_18l, training_shared_18
#               updates of 458,752 tokens against fairseq's transformer with --fp16
#   decoding    translation against fairseq-generate, both with --fp16
#   ctranslate2 translation against CTranslate2 in float16, where that is installed
#   summary     all results in one page, DIR/summary.md; it is also written after any other part
#
# Each part writes DIR/PART.json and DIR/PART.md at once, and DIR/PART.log. A part that fails leaves DIR/PART.failed with
# the reason, which the summary shows; the other parts go on. The exit status is 1 if a check or a part failed.
# Nothing is installed: the Python in PYTHON (default: python3) must have the packages of scripts/setup.sh, or on a
# machine without a network those of fairseq-fixed beside PyTorch. The project itself need not be installed.
. "$(dirname "${BASH_SOURCE[0]}")/run_parts.sh"

checks=(parity compile resume parallel memory)
parts=("${checks[@]}" training_6l training_18l training_shared_18 decoding ctranslate2)
only=() out=benchmarks/results/gpu device=cuda tiny='' python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case $1 in
        --only) only+=("${2:?--only needs a part; see --help}") && shift ;;
        --out) out=${2:?--out needs a folder} && shift ;;
        --device) device=${2:?--device needs cuda or cpu} && shift ;;
        --tiny) tiny=1 ;;
        -h | --help) show_help benchmarks/gpu.sh ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
check_parts
case $device in cpu | cuda) ;; *) die "--device $device: choose cuda or cpu" ;; esac
"$python" -c 'import fairseq, torch' 2>/dev/null || die "$python has no fairseq; run bash scripts/setup.sh and activate its" \
    "environment; on a machine without a network install the wheels of fairseq-fixed, hydra-core, omegaconf, bitarray," \
    "cffi, pycparser and antlr4-python3-runtime 4.9.3 with pip install --no-deps"
[ "$device" = cpu ] || "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    "$python" scripts/gpu_driver.py >&2
    die "PyTorch sees no GPU here; --device cpu --tiny tries the script"
}

# the arguments of each part's benchmark
arguments() {
    local size=() check_size=() few=()
    if [ -n "$tiny" ]; then
        size=(--layers 1 --width 64 --vocabulary 200)
        check_size=("${size[@]}" --tokens 128 --length 8 --max-tokens 512)
        few=(--rounds 1)
    fi
    case $1 in
        training_*)
            [ -n "$tiny" ] || few=(--rounds 5 --warmup 1)
            [ -z "$tiny" ] || few+=(--warmup 0 --max-tokens 512 --update-tokens 1024)
            echo training_speed --device "$device" --sizes "${1#training_}" "${size[@]}" "${few[@]}"
            ;;
        decoding)
            [ -n "$tiny" ] || few=(--sentences 1000 --max-tokens 16000 --rounds 3)
            [ -z "$tiny" ] || few+=(--sentences 4 --beam 2)
            [ "$device" = cpu ] || few+=(--fp16)
            echo decoding_speed --device "$device" "${size[@]}" "${few[@]}"
            ;;
        ctranslate2)
            [ -z "$tiny" ] || size=(--layers 2 --width 64 --vocabulary 200)
            [ -n "$tiny" ] || few=(--sentences 512 --batch 128 --rounds 3)
            [ -z "$tiny" ] || few+=(--sentences 4 --length 5)
            echo ctranslate2_speed --device "$device" "${size[@]}" "${few[@]}"
            ;;
        memory)
            [ -n "$tiny" ] || check_size=(--layers 18)
            echo gpu_checks "$1" --device "$device" "${check_size[@]}"
            ;;
        parity)
            # some schemes differ from the others from four layers on
            [ -z "$tiny" ] || check_size+=(--layers 4)
            echo gpu_checks "$1" --device "$device" "${check_size[@]}"
            ;;
        *) echo gpu_checks "$1" --device "$device" "${check_size[@]}" ;;
    esac
}

run_all gpu_summary
