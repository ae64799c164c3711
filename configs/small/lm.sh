# shellcheck shell=bash disable=SC2034
# A language model for one CPU core and half an hour: B2T, 4 layers, sentence by sentence.
#
# The data are one language in SentencePiece's pieces, made by fairseq-preprocess --only-source:
#   bash scripts/train.sh configs/small/lm.sh --data DIR
max_update=600
tokens_per_update=2048
max_tokens=2048
model=(--task language_modeling --arch b2t_transformer_lm_small --residual b2t --dropout 0)
training=(
    # each sample is one sentence
    --sample-break-mode eos
    --optimizer adam_fused --adam-betas '(0.9, 0.98)' --clip-norm 1.0
    --lr-scheduler polynomial_decay --lr 1.5e-3 --end-learning-rate 1e-5
    --warmup-updates 100 --total-num-update "$max_update"
    --criterion cross_entropy
    --seed 1 --required-batch-size-multiple 1
    --save-interval-updates 200 --keep-interval-updates 1 --no-epoch-checkpoints
)
