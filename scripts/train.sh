#!/usr/bin/env bash
# Train the model of a configuration on the GPUs that are available: one, several, or those of several nodes.
#
#   bash scripts/train.sh CONFIG [--data DIR] [--gpus N] [--dry-run] [fairseq flags]
#
#   CONFIG          for instance configs/wmt14_en_de/b2t_18l_release.sh
#   --data DIR      fairseq's binary data (default: data/NAME/bin, NAME being the configuration's folder)
#   --gpus N        GPUs to use on each node (default: all that are visible)
#   --no-compile    do not add --compile, which is the default on GPUs where torch.compile can work
#   --dry-run       print the command that would be run, and exit
#   fairseq flags   any flag of fairseq-train; it overrides the configuration's, for instance
#                   --save-dir DIR (default: runs/NAME/CONFIG), --max-tokens N, --seed N
#
# Gradients are accumulated so that an update stays at the configuration's tokens_per_update, whatever the number of
# GPUs and --max-tokens; where that is impossible, an error names a possible choice. --update-freq overrides this.
#
# On GPUs the script chooses what the command line does not say, and prints each choice with its reason: --max-tokens by
# the memory of the GPU and the counted bytes in scripts/batch_memory.tsv; bf16 where the GPUs support it, else fp16;
# --compile where it can work; two to four --num-workers for each GPU. On several nodes --max-tokens is the
# configuration's.
#
# A run may continue on another number of GPUs. In the middle of an epoch it needs the same --max-tokens for that, or
# --reset-dataloader; without the flag it keeps its own --max-tokens, and its precision where the GPUs support it. The
# flags --reset-..., --max-update and those of the machine, such as --bf16 or --num-workers, may differ from call to call.
# All other flags must stay as they are.
#
# The same command continues a run that was stopped. SIGUSR1 to any process of a run stops the whole run after the
# current update, with a checkpoint and exit status 75. SIGTERM does the same if it takes no longer than a minute. The output is
# also written to train.log and, for TensorBoard, to tensorboard/ in the run's folder.
#
# Several nodes:  sbatch scripts/slurm/train.sbatch CONFIG ...   (one task on each node)
#                 torchrun --nnodes 2 --nproc-per-node 8 ... --no-python bash scripts/train.sh CONFIG ...
#                 (torchrun forwards SIGTERM only, waits half a minute, and itself exits with status 1)
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
trap 'exit 75' USR1 TERM # before the training starts, there is nothing to save

case ${1:-} in
    "" | -h | --help) show_help ;;
    -*) die "the configuration comes first: bash scripts/train.sh CONFIG ...; see --help" ;;
esac
[ -f "$1" ] || die "$1: no such configuration; the papers' configurations are in configs/wmt14_en_de"
config=$(realpath "$1")
shift

name=$(basename "$(dirname "$config")")
data=$PROJECT/data/$name/bin save_dir=$PROJECT/runs/$name/$(basename "$config" .sh)
gpus='' dry_run='' cpu='' precision='' update_freq='' given_max_tokens='' workers='' compile='' no_compile=''
flags=() machine_flags=() resets=() choices=()
while [ $# -gt 0 ]; do
    # split --flag=value into --flag value
    if [[ $1 == --*=* ]]; then set -- "${1%%=*}" "${1#*=}" "${@:2}"; fi
    case $1 in
        --data) need_value "$@" && data=$2 && shift ;;
        --gpus) need_value "$@" && gpus=$2 && shift ;;
        --dry-run) dry_run=1 ;;
        --save-dir) need_value "$@" && save_dir=$2 && shift ;;
        --max-tokens) need_value "$@" && given_max_tokens=$2 && shift ;;
        --update-freq) need_value "$@" && update_freq=$2 && shift ;;
        --distributed-world-size) die "--distributed-world-size follows from the machine; use --gpus N" ;;
        --cpu) cpu=1 machine_flags+=("$1") ;;
        --fp16 | --bf16 | --amp | --memory-efficient-fp16 | --memory-efficient-bf16) precision=$1 machine_flags+=("$1") ;;
        --compile) compile=1 ;;
        --no-compile) no_compile="--no-compile was given" ;;
        --checkpoint-activations)
            no_compile="--compile cannot work with $1"
            machine_flags+=("$1")
            ;;
        --reset-optimizer | --reset-lr-scheduler | --reset-dataloader | --reset-meters) resets+=("$1") ;;
        --num-workers) need_value "$@" && workers=$2 && shift ;;
        --log-interval | --ddp-backend | --max-tokens-valid | --data-buffer-size | --max-update)
            need_value "$@"
            machine_flags+=("$1" "$2")
            shift
            ;;
        -h | --help) show_help ;;
        *) flags+=("$1") ;;
    esac
    shift
done
for number in $gpus $given_max_tokens $update_freq; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || die "$number: --gpus, --max-tokens and --update-freq take a positive whole number"
done

tokens_per_update='' max_tokens='' max_update='' model=() training=() average=() generation=()
# shellcheck source=configs/wmt14_en_de/b2t_18l_release.sh
. "$config"
[ ${#model[@]} -gt 0 ] || die "$config does not set model=(...): it is not a configuration"

# how many processes there are in total, and which of them this script starts
in_slurm_step=${SLURM_STEP_ID:-}
if [ -n "${RANK:-}" ] && [ -n "${WORLD_SIZE:-}" ] && [ -n "${MASTER_ADDR:-}" ]; then
    launcher=torchrun
elif [ "${SLURM_NNODES:-1}" -gt 1 ]; then
    launcher=slurm
    [ -n "$in_slurm_step" ] || die "this job has $SLURM_NNODES nodes: start with srun, as scripts/slurm/train.sbatch does"
else
    launcher=spawn
fi
if [ "$launcher" != torchrun ] && [ -n "$in_slurm_step" ]; then
    # the numbers of this step; a shell within a job has those of the job too
    tasks=${SLURM_STEP_NUM_TASKS:-${SLURM_NTASKS:-1}} nodes=${SLURM_STEP_NUM_NODES:-${SLURM_NNODES:-1}}
    [ "$tasks" -eq "$nodes" ] ||
        die "$tasks tasks on $nodes node(s): ask for --ntasks-per-node=1, fairseq starts a process for each GPU"
    [ "$launcher" != slurm ] || [ "$nodes" -eq "$SLURM_NNODES" ] ||
        die "this step has $nodes of the job's $SLURM_NNODES nodes: start with srun, as scripts/slurm/train.sbatch does"
fi
if [ "$launcher" = spawn ] && [ -z "$in_slurm_step" ]; then
    # shellcheck disable=SC2119
    run_setup >&2
else
    use_environment
fi

visible=0 has_bf16=False port='' memory='' can_compile=False
if [ -z "$cpu" ]; then
    machine=$(python "$PROJECT/scripts/visible_gpus.py")
    read -r visible has_bf16 port memory can_compile <<<"$machine"
fi
if [ -n "$gpus" ] && [ "$gpus" -gt "$visible" ]; then
    [ -n "$dry_run" ] || die "--gpus $gpus, but $visible are visible here"
    echo "$visible GPUs are visible here; planning for $gpus with bf16" >&2
    has_bf16=True
elif [ -z "$gpus" ]; then
    gpus=$visible
fi
on_cpu=$([ "$gpus" -gt 0 ] || echo 1)
if [ -n "$on_cpu" ] && [ -z "$cpu$dry_run" ] && [ "${tokens_per_update:-0}" -gt 100000 ]; then
    python "$PROJECT/scripts/gpu_driver.py" >&2
    die "no GPU is visible here, and a CPU needs many minutes for one update of $tokens_per_update tokens;" \
        "give --cpu to train on the CPU nevertheless"
fi

# A run that has begun keeps what was chosen for it, because within an epoch its batches must stay the same. A run of an
# earlier version does not say what was chosen: it trained with the configuration's --max-tokens, and without --compile.
has_begun='' own_max_tokens='' own_precision=''
if compgen -G "$save_dir/checkpoint*.pt" >/dev/null; then
    has_begun=1
    [ ! -f "$save_dir/chosen.txt" ] || read -r own_precision own_max_tokens <"$save_dir/chosen.txt"
fi
if [ -z "$precision" ] && [ -z "$on_cpu" ]; then
    if [ "$own_precision" = --bf16 ] && [ "$has_bf16" = False ]; then
        precision=--fp16
        choices+=("--fp16: the run trained in bf16 so far, which these GPUs do not support")
    elif [ -n "$own_precision" ]; then
        precision=$own_precision
        choices+=("$precision: as the run began")
    elif [ "$has_bf16" = True ]; then
        precision=--bf16
        choices+=("--bf16: float32's range in 16 bits; no loss scale is needed")
    else
        precision=--fp16
        choices+=("--fp16: these GPUs do not support bf16")
    fi
    machine_flags+=("$precision")
fi

rank=0
case $launcher in
    spawn)
        world=$((gpus > 0 ? gpus : 1))
        distributed=(--distributed-world-size "$world")
        # explicit, because fairseq would mistake an interactive SLURM job for one started by srun
        [ "$world" -eq 1 ] || distributed+=(--distributed-init-method "tcp://localhost:$port")
        ;;
    slurm)
        [ -z "$on_cpu" ] || die "no GPU is visible on ${SLURMD_NODENAME:-this node}; ask SLURM for some, for instance --gpus-per-node=8"
        [ "$gpus" -eq "$visible" ] || [ -n "$dry_run" ] ||
            die "--gpus $gpus, but $visible are visible: on several nodes fairseq uses all of them; ask SLURM for fewer"
        world=$((SLURM_NNODES * gpus)) rank=$SLURM_NODEID
        # fairseq finds the first node's name and this node's ranks itself; all nodes must agree on the port
        distributed=(--distributed-world-size "$world" --distributed-port $((20000 + SLURM_JOB_ID % 20000)))
        ;;
    torchrun)
        [ "$gpus" = "$visible" ] || [ -n "$dry_run$on_cpu" ] ||
            die "--gpus $gpus: torchrun says how many processes there are; leave it out"
        world=$WORLD_SIZE rank=$RANK
        # explicit, because fairseq would start a separate run in each process that sees one GPU
        distributed=(
            --distributed-world-size "$world" --distributed-rank "$rank" --distributed-no-spawn
            --distributed-init-method env:// --device-id $((gpus > 0 ? ${LOCAL_RANK:-$RANK} % gpus : 0))
        )
        ;;
esac
if [ -n "$on_cpu" ] && [ "$world" -gt 1 ]; then
    distributed+=(--cpu --distributed-backend gloo --ddp-backend legacy_ddp)
fi

if [ -n "$given_max_tokens" ]; then
    max_tokens=$given_max_tokens
elif [ -n "$own_max_tokens" ]; then
    max_tokens=$own_max_tokens
    choices+=("--max-tokens $max_tokens: as the run began")
elif [ -n "$tokens_per_update" ] && [ -n "$max_tokens" ] && [ -z "$update_freq$has_begun$on_cpu" ] &&
    [ "${memory:-0}" -gt 0 ] && [ "$launcher" = spawn ]; then
    choice=$(python "$PROJECT/scripts/batch_size.py" --memory "$memory" --max-tokens "$max_tokens" \
        --update "$tokens_per_update" --processes "$world" --model="${model[*]}" --training="${training[*]}" "${flags[@]}")
    max_tokens=${choice%% *}
    choices+=("--max-tokens $max_tokens: ${choice#* }")
fi
batch=()
[ -z "$max_tokens" ] || batch=(--max-tokens "$max_tokens")
if [ -n "$tokens_per_update" ] && [ -n "$max_tokens" ] && [ -z "$update_freq" ]; then
    update_freq=$((tokens_per_update / (world * max_tokens)))
    if [ $((update_freq * world * max_tokens)) -ne "$tokens_per_update" ]; then
        fitting=$max_tokens devices=$world
        while [ $((tokens_per_update % devices)) -ne 0 ]; do devices=$((devices - 1)); done
        while [ $((tokens_per_update % (devices * fitting))) -ne 0 ]; do fitting=$((fitting - 1)); done
        [ "$tokens_per_update" -gt "$max_tokens" ] || die "an update of this configuration has $tokens_per_update tokens," \
            "one batch of one GPU, and $world GPUs would make it larger; use --gpus 1"
        die "$world processes with --max-tokens $max_tokens cannot make updates of $tokens_per_update tokens;" \
            "$devices processes with --max-tokens $fitting can (or give --update-freq, for updates of another size)"
    fi
fi
if [ -z "$tokens_per_update$update_freq" ] && [ "$world" -gt 1 ]; then
    die "this configuration is made for one GPU: it does not say how large an update is, so that $world GPUs would make" \
        "each update $world times as large; use --gpus 1, or give --update-freq 1 for the larger updates"
fi
[ -z "$update_freq" ] || batch+=(--update-freq "$update_freq")
update_size=${update_freq:+${max_tokens:+$((update_freq * world * max_tokens))}}

if [ -z "$compile" ] && [ -z "$on_cpu" ]; then
    if [ -z "$no_compile" ]; then
        case " ${model[*]} ${training[*]} ${flags[*]} " in
            *" --kernels fairseq "*) no_compile="--kernels fairseq is not compiled" ;;
            *" --offload-activations "*) no_compile="--compile cannot work with --offload-activations" ;;
            *" --arch b2t_"*) ;;
            *) no_compile="only the architectures of this plugin know it" ;;
        esac
        [ "$can_compile" = True ] || no_compile="there is no Triton or no C compiler, or a GPU is too old"
        [ -z "$has_begun" ] || [ -n "$own_precision" ] || no_compile="the run began without it"
    fi
    if [ -n "$no_compile" ]; then
        choices+=("without --compile: $no_compile")
    else
        compile=1
        choices+=("--compile: the layers are compiled, which takes some minutes at the start; --no-compile leaves it out")
    fi
fi
[ -z "$compile" ] || machine_flags+=(--compile)
if [ -z "$workers" ] && [ -z "$on_cpu" ] && [[ " ${training[*]} " != *" --num-workers "* ]]; then
    workers=$(($(cores) / gpus))
    workers=$((workers < 2 ? 2 : workers > 4 ? 4 : workers))
    choices+=("--num-workers $workers: processes that make batches for each GPU; this machine has $(cores) cores")
fi
[ -z "$workers" ] || machine_flags+=(--num-workers "$workers")

if [ -f "$data/config.yaml" ]; then
    vocabulary=("$data"/config.yaml "$data"/*.txt) # fairseq's format for speech
else
    vocabulary=("$data"/dict*.txt)
fi
[ -f "${vocabulary[0]}" ] || [ -n "$dry_run" ] ||
    die "--data $data: no binary data there; make it, for instance with scripts/prepare_wmt14_en_de.sh, or give --data"
command=(
    b2t train "$data" --save-dir "$save_dir" --log-format simple --log-interval 50
    ${max_update:+--max-update "$max_update"} "${model[@]}" "${training[@]}" "${batch[@]}" "${distributed[@]}"
    "${machine_flags[@]}"
)
if python -c 'import torch.utils.tensorboard' 2>/dev/null; then
    command+=(--tensorboard-logdir "$save_dir/tensorboard")
fi
command+=("${flags[@]}" "${resets[@]}")

if [ "$rank" -eq 0 ] || [ -n "$dry_run" ]; then
    if [ -n "$on_cpu" ]; then where="$world process(es) on the CPU"; else where="$world GPU(s), ${precision#--}"; fi
    [ -z "$update_size" ] || where+="; updates of $update_size tokens = $world x $max_tokens x $update_freq"
    say "$where"
    [ ${#choices[@]} -eq 0 ] || printf '   %s\n' "${choices[@]}"
    printf '%q ' "${command[@]}"
    echo
fi
[ -z "$dry_run" ] || exit 0

if [ "$rank" -eq 0 ]; then
    mkdir -p "$save_dir"
    lock "$save_dir/.lock" "a run is at work in $save_dir; wait for it, or give another --save-dir"
    export B2T_LOCK_FD=9 # b2t train takes over the lock, instead of finding the folder locked
    # evaluate.sh reads this file too. It has neither max_update, because a run may be extended, nor flags that depend on
    # the machine, nor those that say how to continue from a checkpoint.
    dictionaries=$(cat "${vocabulary[@]}" | sha256sum | cut -d ' ' -f 1)
    same_settings "$save_dir/settings.sh" \
        "$(declare -p update_size dictionaries model training flags average generation)" "the run in $save_dir"
    realpath "$data" >"$save_dir/data.txt"
    if [ -z "$on_cpu" ] && { [ -z "$has_begun" ] || [ -n "$own_precision" ]; }; then
        echo "$precision $max_tokens" >"$save_dir/chosen.txt"
    fi
    # signals must stop the training, but not the process that writes its log
    exec > >(trap '' INT TERM USR1 && exec tee -a "$save_dir/train.log" 9>&-) 2>&1
fi
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=${PYTHONWARNINGS:-ignore}
trap '' USR1 # until b2t train handles it itself, some seconds from now
exec "${command[@]}"
