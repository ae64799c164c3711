#!/usr/bin/env bash
# Everything about speed on the processor at hand, in under an hour: training and translation against fairseq and
# CTranslate2, and what decides them.
#
#   bash benchmarks/any_cpu.sh [--without-avx512] [--only PART]... [--out DIR] [--tiny]
#
#   --without-avx512  let PyTorch's libraries use what a processor without AVX-512 has. MKL's products are left as they are:
#                     on AMD's processors it uses no AVX-512 anyway
#   --only PART       run this part, again if its result is there (default: all parts whose results are not there)
#   --out DIR         where the results go, in a folder for the kind of processor, avx512 or avx2 (default:
#                     benchmarks/results/cpu, which docs/speed.md shows)
#   --tiny            with models so small that their numbers mean nothing
#
# Parts, each with one thread unless it says otherwise:
#   training_6l, training_18l   updates against fairseq's transformer
#   parts                       the products and Adam alone
#   decoding                    batches and single sentences against fairseq-generate, float32 and 8 bits
#   latency                     single sentences as a user waits for them
#   ctranslate2                 one and the same model by fairseq, this plugin and CTranslate2
#   int8_products               products with 8 bits against those of float32
#   first_result                from the start of a command to the first update and the first translation
#   kept_memory                 freed memory that is kept
#   busy_machine                beside a busy process, with all cores
#   summary                     all results in one page, DIR/KIND/summary.md; it is also written after any other part
#
# Each part writes DIR/KIND/PART.json and PART.md at once, and PART.log. A part that fails leaves PART.failed with the
# reason; the other parts go on. The time of the processor is counted where other work on the machine would change
# the time on the clock. The Python in PYTHON (default: python3) must have the packages of scripts/setup.sh.
. "$(dirname "${BASH_SOURCE[0]}")/run_parts.sh"

parts=(training_6l training_18l parts decoding latency ctranslate2 int8_products first_result kept_memory busy_machine)
only=() out=benchmarks/results/cpu tiny='' python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
    case $1 in
        --without-avx512)
            export ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 FBGEMM_ENABLE_INSTRUCTIONS=AVX2
            ;;
        --only) only+=("${2:?--only needs a part; see --help}") && shift ;;
        --out) out=${2:?--out needs a folder} && shift ;;
        --tiny) tiny=1 ;;
        -h | --help) show_help benchmarks/any_cpu.sh ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
check_parts
kind=$("$python" -c 'import fairseq, torch; print(torch.backends.cpu.get_cpu_capability().lower())' | tail -n 1) ||
    die "$python has no fairseq; run bash scripts/setup.sh and activate its environment"
out=$out/$kind

# the arguments of each part's benchmark
arguments() {
    local size=() few=(--rounds 3) one=(--threads 1) sentences=(--sentences 24)
    if [ -n "$tiny" ]; then
        size=(--layers 1 --width 64 --vocabulary 200)
        few=(--rounds 1)
        sentences=(--sentences 4)
    fi
    case $1 in
        training_*)
            [ -z "$tiny" ] || few+=(--warmup 0 --max-tokens 512 --update-tokens 1024)
            echo training_speed --device cpu --sizes "${1#training_}" "${size[@]}" "${few[@]}" "${one[@]}"
            ;;
        parts) echo parts "${few[@]}" "${one[@]}" ;;
        decoding) echo decoding_speed --device cpu --processor-time "${size[@]}" "${few[@]}" "${one[@]}" "${sentences[@]}" ;;
        latency) echo latency --processor-time "${size[@]}" "${few[@]}" "${one[@]}" "${sentences[@]}" ;;
        ctranslate2)
            [ -z "$tiny" ] || size=(--layers 2 --width 64 --vocabulary 200 --length 5)
            echo ctranslate2_speed --processor-time "${size[@]}" "${few[@]}" "${one[@]}" "${sentences[@]}"
            ;;
        int8_products) echo int8_products ;;
        first_result) echo first_result "${size[@]}" "${few[@]}" "${one[@]}" ;;
        kept_memory) echo kept_memory "${size[@]}" "${few[@]}" "${sentences[@]}" ;;
        busy_machine)
            [ -z "$tiny" ] || few+=(--seconds 0.2)
            echo busy_machine "${few[@]}"
            ;;
    esac
}

run_all cpu_summary
