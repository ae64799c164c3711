declare -- update_size="320"
declare -- dictionaries="0c9192b5011649433dbbbd1b44784273908886b25dc78113f119316f97290c3a"
declare -a model=([0]="--arch" [1]="b2t_transformer_tiny" [2]="--residual" [3]="b2t" [4]="--share-all-embeddings" [5]="--layer-sharing" [6]="cycle_rev" [7]="--encoder-unique-layers" [8]="1" [9]="--decoder-unique-layers" [10]="1" [11]="--encoder-layers" [12]="2" [13]="--decoder-layers" [14]="2" [15]="--encoder-embed-dim" [16]="16" [17]="--encoder-ffn-embed-dim" [18]="16" [19]="--dropout" [20]="0")
declare -a training=([0]="--optimizer" [1]="adam" [2]="--lr" [3]="0.01" [4]="--lr-scheduler" [5]="inverse_sqrt" [6]="--warmup-updates" [7]="10" [8]="--clip-norm" [9]="1.0" [10]="--criterion" [11]="label_smoothed_cross_entropy" [12]="--label-smoothing" [13]="0.1" [14]="--seed" [15]="7" [16]="--required-batch-size-multiple" [17]="1" [18]="--num-workers" [19]="0" [20]="--log-interval" [21]="50" [22]="--save-interval-updates" [23]="100" [24]="--keep-interval-updates" [25]="2" [26]="--validate-interval" [27]="5" [28]="--no-epoch-checkpoints" [29]="--no-save-optimizer-state")
declare -a flags=()
declare -a average=([0]="--by" [1]="updates" [2]="--last" [3]="2")
declare -a generation=([0]="--beam" [1]="2")
