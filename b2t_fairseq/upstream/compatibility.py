"""Checks that a fairseq that works is installed, and lets its checkpoints load without running code."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FAIRSEQ = "fairseq-fixed==0.12.3.1"

_HOW_TO_INSTALL = f"""install the maintained drop-in (same module name, same commands):
    pip uninstall -y fairseq
    pip install cython numpy setuptools wheel
    pip install --no-build-isolation {FAIRSEQ}
or run `bash scripts/setup.sh` of this project, which does it."""


def require_fairseq() -> None:
    """Check that a fairseq is installed and that it is not the last official release, without importing it.

    Raises:
        ImportError: no fairseq, or 0.12.2 and older: not importable on Python 3.11 and newer, and its inference
            fast path decodes Post-LN encoder layers without their residual scheme.
    """
    spec = importlib.util.find_spec("fairseq")
    if spec is None or spec.origin is None:
        raise ImportError(f"b2t_fairseq needs fairseq, which is not installed; {_HOW_TO_INSTALL}")
    version_file = Path(spec.origin).with_name("version.py")
    text = version_file.read_text() if version_file.exists() else ""
    version = re.search(r"__version__ = ['\"](\d+)\.(\d+)\.(\d+)", text)
    if version and tuple(map(int, version.groups())) <= (0, 12, 2):
        raise ImportError(
            f"b2t_fairseq cannot work with fairseq {'.'.join(version.groups())} ({version_file.parent}): it does not "
            f"import on Python 3.11 and newer, and its inference fast path skips the residual schemes; "
            f"{_HOW_TO_INSTALL}"
        )


@contextlib.contextmanager
def root_logger_untouched() -> Iterator[None]:
    """Keep the root logger as it is while fairseq is imported.

    fairseq logs a hint on import, and a first message to the root logger configures logging for the whole program.
    """
    placeholder = logging.NullHandler()
    logging.getLogger().addHandler(placeholder)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(placeholder)


class _Postponed(types.ModuleType):
    """A stand-in for a module: each of its attributes is a function that imports the module when it is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)


@contextlib.contextmanager
def metrics_of_classification_postponed() -> Iterator[None]:
    """Let what imports fairseq not wait for scikit-learn and SciPy, a third of the time that fairseq needs.

    fairseq imports functions of both for criteria and tasks of classification.  They are imported when one of these
    functions is called.
    """
    names = [name for name in ("sklearn", "sklearn.metrics", "scipy", "scipy.stats") if name not in sys.modules]
    stand_ins = {name: _Postponed(name) for name in names}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent in stand_ins:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def allow_checkpoint_types() -> None:
    """Let ``torch.load(weights_only=True)`` restore the plain data types in fairseq's checkpoints.

    None of them runs code when restored.  Everything else stays forbidden, so that a stranger's checkpoint is refused
    rather than executed.
    """
    import collections
    import typing

    import numpy
    import omegaconf
    import torch
    from fairseq.distributed.utils import _TensorPlaceholder

    numpy_types: list[Any] = [numpy.ndarray, numpy.dtype]
    numpy_types += [type(numpy.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "bool")]
    rebuilders: tuple[Any, ...] = (numpy.float64(0).__reduce__()[0], numpy.empty(0).__reduce__()[0])
    for rebuild in rebuilders:
        # NumPy 1 and NumPy 2 keep these functions in different modules, and a checkpoint may come from either.
        numpy_types += [(rebuild, f"numpy.{core}.multiarray.{rebuild.__name__}") for core in ("core", "_core")]
    # Rank 0 broadcasts the checkpoint that it has loaded, with the settings as omegaconf objects.
    omegaconf_types = [
        omegaconf.DictConfig,
        omegaconf.ListConfig,
        omegaconf.AnyNode,
        omegaconf.base.ContainerMetadata,
        omegaconf.base.Metadata,
    ]
    plain_types = [argparse.Namespace, collections.defaultdict, dict, list, int, typing.Any]
    torch.serialization.add_safe_globals([*plain_types, *numpy_types, *omegaconf_types, _TensorPlaceholder])
