"""Two mends of fairseq 0.12.3.1, applied when the plugin is loaded: a killed run goes on as if it had not been killed.

Neither changes what an uninterrupted run computes.
"""

from __future__ import annotations

import functools
import inspect

from fairseq.file_io import PathManager
from fairseq.tasks import FairseqTask

from .checkpoints import copy_whole


def apply() -> None:
    """Apply both mends; calling it again does nothing."""
    original = FairseqTask.get_batch_iterator
    if not hasattr(original, "__wrapped__"):
        FairseqTask.get_batch_iterator = _with_batches_of_first_epoch(original)
    # fairseq copies checkpoint_last.pt in place, where a kill leaves half a file
    PathManager.copy = staticmethod(copy_whole)


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
