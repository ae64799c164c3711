# shellcheck shell=bash disable=SC2034
# What the sharing paper's language models on WikiText-103 have in common (arXiv 2104.06022): Pre-LN, adaptive inputs,
# 121M parameters. The recipe is fairseq's own for adaptive inputs on this text, with 8 GPUs x 3,072 tokens x 3 for an
# update; we do not know the paper's learning rate and number of updates. No such model was trained with this project.
#
# Data: fairseq's examples/language_model makes data-bin/wikitext-103, the folder for --data. Evaluation:
#   fairseq-eval-lm DATA --user-dir "$(b2t path)" --path RUN/checkpoint_best.pt --gen-subset test --max-tokens 3072 \
#     --tokens-per-sample 3072 --context-window 2560
max_update=286000
tokens_per_update=73728
max_tokens=3072
model=(
    --task language_modeling --arch b2t_transformer_lm_wiki103 --residual pre_ln
    # as in fairseq's architecture of that name
    --no-decoder-final-norm
)
training=(
    --tokens-per-sample 3072 --sample-break-mode none --skip-invalid-size-inputs-valid-test
    --optimizer nag --lr 1.0 --lr-scheduler cosine --lr-period-updates 270000 --t-mult 2 --lr-shrink 0.75
    --min-lr 1e-4 --stop-min-lr 1e-9 --warmup-updates 16000 --warmup-init-lr 1e-7 --clip-norm 0.1
    # an adaptive softmax leaves some parameters without a gradient, and the default --ddp-backend then fails
    --criterion adaptive_loss --ddp-backend legacy_ddp
    --seed 1 --required-batch-size-multiple 1
)
