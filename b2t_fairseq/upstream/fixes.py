"""Mends of fairseq 0.12.3.1, applied when the plugin is loaded.

A killed run goes on as if it had not been killed; the two mends for this do not change what an uninterrupted run
computes.  The moving average of ``--store-ema`` moves tied parameters once per update.  A checkpoint holds tied
parameters once, whatever the device and the precision.  ``fairseq-preprocess --user-dir`` looks words up faster.  And
language models read one sentence a sample with today's NumPy too.
"""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace

import numpy as np
import torch
from fairseq import utils
from fairseq.data import Dictionary, token_block_dataset
from fairseq.file_io import PathManager
from fairseq.models.ema.ema import EMA
from fairseq.tasks import FairseqTask
from fairseq.tokenizer import tokenize_line

from ..checkpoints import copy_whole


@functools.cache
def apply() -> None:
    """Apply all mends; calling it again does nothing."""
    FairseqTask.get_batch_iterator = _with_batches_of_first_epoch(FairseqTask.get_batch_iterator)
    EMA._step_internal = _with_tied_parameters_once(EMA._step_internal)
    Dictionary.encode_line = _with_one_tensor(Dictionary.encode_line)
    token_block_dataset.np = _NumpyWithLong()
    utils.move_to_cpu = _with_each_tensor_once(utils.move_to_cpu)
    # fairseq copies checkpoint_last.pt in place, where a kill leaves half a file
    PathManager.copy = staticmethod(copy_whole)


class _NumpyWithLong:
    """NumPy with the name ``np.compat.long``, gone since 2.0, by which fairseq makes ``--sample-break-mode eos``."""

    compat = SimpleNamespace(long=np.int64)

    def __getattr__(self, name):
        return getattr(np, name)


def _with_batches_of_first_epoch(get_batch_iterator):
    """Make a resumed run use the batches of the run that it resumes.

    fairseq groups sentences into batches once, when a run starts, with a seed that depends on the epoch, and then only
    shuffles the batches.  A run resumed in epoch 5 would so get other batches than the uninterrupted one.
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
        known = dataset in self.dataset_to_epoch_iter
        given["epoch"] = 1
        iterator = get_batch_iterator(*call.args, **call.kwargs)
        if not known:
            iterator.epoch = epoch
            dataset.set_epoch(epoch)
        return iterator

    return wrapper


def _with_one_tensor(encode_line):
    """Make the indices of a line in a list; fairseq writes them into a tensor one by one."""

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


def _with_each_tensor_once(move_to_cpu):
    """Make what refers to one tensor refer to one copy of it.

    fairseq moves a model to the CPU, in float32, name by name before it is saved, so that layers which share their
    parameters would be written N/M times if they come from a GPU or are of half precision.
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


def _with_tied_parameters_once(step):
    """Make an EMA step move each tensor once, under its first name.

    fairseq goes by name, so a tensor with k names would move k times as fast, the shared embeddings of every
    translation model among them.
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
