"""Fixes of fairseq 0.12.3.1: each function returns what stands in the place of one of fairseq's.

:mod:`~b2t_fairseq.upstream.patches` says which and why.
"""

from __future__ import annotations

import functools
import inspect
import logging
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy
import torch
from fairseq import utils
from fairseq.models import FairseqEncoder
from fairseq.tokenizer import tokenize_line

from b2t_common.errors import InputError

from ..checkpoints import copy_whole


class _NumpyWithLong:
    """NumPy with the name ``np.compat.long``, which NumPy 2 does not have."""

    compat = SimpleNamespace(long=numpy.int64)

    def __getattr__(self, name):
        return getattr(numpy, name)


def with_long(np: ModuleType) -> _NumpyWithLong:
    """Return NumPy as ``--sample-break-mode eos`` needs it."""
    return _NumpyWithLong()


def with_whole_copy(copy):
    """Return a copy that leaves either the old file or the whole new one, in place of ``PathManager.copy``."""
    return copy_whole


def with_batches_of_first_epoch(get_batch_iterator):
    """Let a continued run use the batches with which it began.

    fairseq groups sentences into batches once, when a run starts, with a seed that depends on the epoch.  Later it only
    shuffles the batches.  So a run that continues in epoch 5 gets other batches than the uninterrupted run.
    """
    signature = inspect.signature(get_batch_iterator)

    @functools.wraps(get_batch_iterator)
    def wrapper(self, dataset, *args, **kwargs):
        call = signature.bind(self, dataset, *args, **kwargs)
        call.apply_defaults()
        given = call.arguments
        epoch = given["epoch"]
        regrouped = given["disable_iterator_cache"] or given["update_epoch_batch_itr"]
        if regrouped or epoch == 1 or not self.can_reuse_epoch_itr(dataset):
            return get_batch_iterator(*call.args, **call.kwargs)
        is_cached = dataset in self.dataset_to_epoch_iter
        given["epoch"] = 1
        iterator = get_batch_iterator(*call.args, **call.kwargs)
        if not is_cached:
            iterator.epoch = epoch
            dataset.set_epoch(epoch)
        return iterator

    return wrapper


def with_one_tensor(encode_line):
    """Collect the indices of a line in a list; fairseq writes them into a tensor one by one."""

    @functools.wraps(encode_line)
    def wrapper(
        self,
        line,
        line_tokenizer=tokenize_line,
        add_if_not_exist=True,
        consumer=None,
        append_eos=True,
        reverse_order=False,
    ):
        words = line_tokenizer(line)
        if reverse_order:
            words = words[::-1]
        if add_if_not_exist:
            indices = [self.add_symbol(word) for word in words]
        else:
            indices = [self.indices.get(word, self.unk_index) for word in words]
        if consumer is not None:
            for word, index in zip(words, indices, strict=True):
                consumer(word, index)
        return torch.tensor([*indices, self.eos_index] if append_eos else indices, dtype=torch.int32)

    return wrapper


def with_each_tensor_once(move_to_cpu):
    """Copy each tensor once, so that names of the same tensor are names of the same copy.

    Before fairseq saves a model it moves it to the CPU, in float32, name by name.  So layers that share parameters are
    written N/M times if they come from a GPU or are in half precision.
    """

    @functools.wraps(move_to_cpu)
    def wrapper(sample):
        moved: dict[tuple, torch.Tensor] = {}

        def once(tensor):
            key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            if key not in moved:
                moved[key] = move_to_cpu([tensor])[0]
            return moved[key]

        return utils.apply_to_sample(once, sample)

    return wrapper


def with_tied_parameters_once(step):
    """Move each tensor once in a step of the moving average, under its first name.

    fairseq goes through the names, so a tensor with k names moves k times as fast.  The shared embeddings of every
    translation model are such a tensor.
    """

    @functools.wraps(step)
    def wrapper(self, new_model, updates=None):
        first_names: dict[int, str] = {}
        state = new_model.state_dict()
        owners = {name: first_names.setdefault(tensor.data_ptr(), name) for name, tensor in state.items()}
        distinct = {name: tensor for name, tensor in state.items() if owners[name] == name}
        step(self, SimpleNamespace(state_dict=lambda: distinct), updates)
        for name, owner in owners.items():
            if name in self.fp32_params:
                self.fp32_params[name] = self.fp32_params[owner]

    return wrapper


def with_places_in_batch(step):
    """Let diverse beam search index its table, which has a row for each sentence of the batch, by places in the batch.

    fairseq indexes it by the numbers of the sentences in the corpus.
    """

    @functools.wraps(step)
    def wrapper(self, number, lprobs, scores, prev_output_tokens=None, original_batch_idxs=None):
        if number == 0:
            self.sentences_of_batch = original_batch_idxs
        # (sentences that go on, sentences of the batch); each row has one match
        places = original_batch_idxs.unsqueeze(1).eq(self.sentences_of_batch).int().argmax(dim=1)
        return step(self, number, lprobs, scores, prev_output_tokens, places)

    return wrapper


def with_lengths_of_text(generate):
    """Let ``--match-source-len`` count the symbols of a text without its end, as fairseq does for other input."""

    @functools.wraps(generate)
    def wrapper(self, sample, *args, **kwargs):
        net_input = sample["net_input"]
        is_text = "src_tokens" in net_input and net_input["src_tokens"].dim() == 2
        if self.match_source_len and is_text:
            # without the lengths fairseq counts
            sample = {**sample, "net_input": {name: x for name, x in net_input.items() if name != "src_lengths"}}
        return generate(self, sample, *args, **kwargs)

    return wrapper


def with_ngrams_of_hypotheses(no_repeat_ngram):
    """Exclude every symbol that would complete an n-gram for the second time in its hypothesis."""

    @functools.wraps(no_repeat_ngram)
    def wrapper(self, tokens, lprobs, bsz, beam_size, step):
        size = self.no_repeat_ngram_size
        if step < size:
            return lprobs
        history = tokens[:, 1 : step + 1]  # (bsz * beam, step), without the symbol that starts every sentence
        ngrams = history.unfold(1, size, 1)  # (bsz * beam, step - size + 1, size)
        last = history[:, step - size + 1 :].unsqueeze(1)
        is_begun = ngrams[:, :, :-1].eq(last).all(dim=2)
        repeats = torch.zeros_like(lprobs).scatter_add_(1, ngrams[:, :, -1], is_begun.to(lprobs.dtype))
        return lprobs.masked_fill_(repeats.gt(0), float("-inf"))

    return wrapper


def refusing_without_files(train_step):
    """Refuse to train a fresh model whose files are missing; a model that was loaded does not need them."""

    @functools.wraps(train_step)
    def wrapper(self, samples, *args, **kwargs):
        for flag, path in getattr(self.get_model(), "unread_files", {}).items():
            raise InputError(f"{flag} {path}: no such file; give the file, or drop the flag")
        return train_step(self, samples, *args, **kwargs)

    return wrapper


def with_reason(load_checkpoint):
    """Tell why a checkpoint does not fit; fairseq says that it does not."""

    @functools.wraps(load_checkpoint)
    def wrapper(self, filename, *args, **kwargs):
        try:
            return load_checkpoint(self, filename, *args, **kwargs)
        except Exception as error:
            if isinstance(error.__context__, InputError):
                raise InputError(f"{filename} cannot be used: {error.__context__}") from None
            raise

    return wrapper


def with_r_drop_in_training_only(forward):
    """Return ``forward`` of fairseq's criterion for R-Drop that validates one pass, and logs numbers of one pass.

    fairseq doubles each batch in validation too, so that the losses are twice as large, and leaves the doubled batch in
    the sample, of which BLEU is computed afterwards.
    """

    @functools.wraps(forward)
    def wrapper(self, model, sample, reduce=True, net_output=None):
        alpha = self.rdrop_alpha
        self.rdrop_alpha = alpha if self.training else 0.0
        try:
            sample = {**sample, "net_input": dict(sample["net_input"])}
            loss, sample_size, logged = forward(self, model, sample, reduce, net_output)
        finally:
            self.rdrop_alpha = alpha
        if self.training and alpha > 0:
            # the cross entropy of both passes, without the divergence
            logged["loss"] = (logged["loss"] - alpha * logged["rdrop_kl_loss"]) / 2
            logged["nll_loss"] = logged["nll_loss"] / 2
        return loss, sample_size, logged

    return wrapper


def with_text_in_files(make_dataset):
    """Refuse binary data without a line in one line; NumPy cannot map an empty file into memory."""

    @functools.wraps(make_dataset)
    def wrapper(path, impl, *args, **kwargs):
        file = Path(f"{path}.bin")
        if impl == "mmap" and file.is_file() and not file.stat().st_size:
            raise InputError(f"{file} is empty: fairseq-preprocess got a text without lines; give it one with lines")
        return make_dataset(path, impl, *args, **kwargs)

    return wrapper


def with_a_sentence_left(filter_indices_by_size):
    """Refuse data of which each sentence is too long; fairseq fails when it makes batches of none."""

    @functools.wraps(filter_indices_by_size)
    def wrapper(self, indices, dataset, max_positions=None, ignore_invalid_inputs=False):
        kept = filter_indices_by_size(self, indices, dataset, max_positions, ignore_invalid_inputs)
        if len(indices) and not len(kept):
            raise InputError(
                f"all {len(indices):,} sentences are longer than max_positions={max_positions}: give larger "
                "--max-source-positions or --max-target-positions, or shorter sentences"
            )
        return kept

    return wrapper


def with_hooks_for_tensors(add_hooks):
    """Let fairseq look for the layer with the first NaN.

    PyTorch cannot observe the gradient of a module that returns lists of tensors, as encoders do, and raises
    StopIteration.  Without this, that is what a training ends with whose gradients are not finite.
    """

    @functools.wraps(add_hooks)
    def wrapper(self, module):
        asked = self.backward
        self.backward = asked and not isinstance(module, FairseqEncoder)
        try:
            add_hooks(self, module)
        finally:
            self.backward = asked

    return wrapper


def without_lines_of_tied_parameters() -> None:
    """Leave what fairseq logs of each tied parameter out of its trainer's log."""
    logging.getLogger("fairseq.trainer").addFilter(lambda record: "detected shared parameter" not in str(record.msg))
