# shellcheck shell=bash disable=SC2034
# B2T on LibriSpeech, 12-6 layers, 30M parameters: fairseq's recipe for s2t_transformer_s with another residual scheme.
# Data: examples/speech_to_text/prep_librispeech_data.py of fairseq's repository. This project did not train the model.
max_update=300000
# frames rather than tokens: 40,000 on each of 8 GPUs
tokens_per_update=320000
max_tokens=40000
model=(--task speech_to_text --arch b2t_s2t_transformer_s --residual b2t --share-decoder-input-output-embed)
training=(
    --config-yaml config.yaml --num-workers 4 --seed 1
    --train-subset 'train-clean-100,train-clean-360,train-other-500' --valid-subset 'dev-clean,dev-other'
    --optimizer adam_fused --lr 2e-3 --lr-scheduler inverse_sqrt --warmup-updates 10000 --clip-norm 10.0
    --criterion label_smoothed_cross_entropy_fused --label-smoothing 0.1 --report-accuracy
    # fairseq's default, 8, drops utterances of the validation sets
    --required-batch-size-multiple 1
    --keep-last-epochs 10
)
average=(--by epochs --last 10)
generation=(--beam 5)
