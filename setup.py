"""Lets old tools call ``python setup.py``; the metadata is in pyproject.toml."""

from setuptools import setup

setup()
