"""Puts the checkout first on the path and registers the plugin; one thread, as tests may run side by side."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402

import b2t_fairseq  # noqa: E402, F401

torch.set_num_threads(1)
