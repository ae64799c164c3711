"""What this project claims about speed and memory, as programs: ``python -m benchmarks.NAME``, from its root folder.

Every program prints a table.  ``--output OUTPUT`` also writes it to OUTPUT.md, and its numbers to OUTPUT.json.  The
results that the documentation shows are in ``benchmarks/results``.

* ``training_speed``: whole updates of this plugin's models and of fairseq's own Transformer
* ``training_steps``: the same, with one of the flags that speed up training after the other
* ``training_ceiling``: the same, against nothing but matrix products at the processor's peak
* ``train_step``: a single step of every residual scheme and of every sharing strategy
* ``sharing_speed``: a single step of the sharing paper's models in their real size
* ``parts``: matrix products and Adam alone
* ``loss_curve``: whether this plugin's fastest flags train as fairseq does, loss by loss
* ``growing``: a model that grows deeper with ``b2t grow`` against one that is deep from the start
* ``decoding_speed``, ``ctranslate2_speed``: translation
* ``batch_filling``: what a search computes in vain, by the size of batches
* ``decoding_ceiling``: translation, against nothing but its matrix products
* ``latency``: single sentences, the first sentence, the start of the program
* ``int8_products``: matrix products with 8-bit weights
* ``translation_quality``: what weights in 8 bits and in bfloat16 change in translations
* ``shortlist``: what an output layer of likely symbols only changes in translations
* ``checkpoint_size``: gradients, optimizer state and checkpoints of models with shared layers
* ``recompilations``: how often ``--compile`` compiles
* ``kept_memory``: what it gives to keep freed memory, and what it costs
* ``busy_machine``: what waiting threads cost beside other work
* ``command_startup``: how long the commands take that need no model
* ``first_result``: how long until the first update and the first translation
* ``prepare_at_scale``: preparing as much text as WMT14 has
* ``activation_memory``: counts what a model keeps for its backward pass, for ``scripts/train.sh``
* ``gpu_checks``, ``gpu_summary``: parts of ``benchmarks/gpu.sh``, the first hour on a GPU
* ``cpu_summary``: the page of ``benchmarks/any_cpu.sh``, which runs all that says how fast a processor is
* ``long_sentences``: translations of sentences longer than those of training, by positions
* ``subword_sampling``: sentences and batches whose pieces are drawn, and the time for it
* ``sampling_quality``: what such pieces do for the scores; ``benchmarks/sampling/run.sh`` trains with and without
* ``mbr``: minimum Bayes risk by chrF and BLEU, with candidates by beam and by sampling
* ``early_stopping_quality``: R-Drop, early stopping and choice by BLEU; ``benchmarks/early_stopping/run.sh`` trains
* ``distilling``: what a student learns from a teacher's translations; ``benchmarks/distillation/run.sh`` trains both
* ``rewrite_tables``: writes the tables of ``benchmarks/results`` again from their numbers

The programs share these modules: ``arguments`` (command lines), ``measuring`` (times, ratios, memory), ``write_result``
(tables and files), ``trainers`` (fairseq's trainer), ``training_runs`` (models that train side by side),
``training_sizes`` and ``training_speed_table`` (models and table of ``training_speed``), ``translating``
(fairseq-generate), ``summary_page`` (the pages of both scripts), ``gpu_runs`` (whole runs of ``b2t train``),
``synthetic_corpus`` (random sentences), ``peak_flops``,
``quickstart_runs`` (folders of ``scripts/quickstart.sh``).
"""

import os

# PyTorch reads both when it is imported, so they are set here.  Its profiler, which measures memory on a CPU, would
# print a line whenever it starts and stops, and warn that it does not see when older memory is freed.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
