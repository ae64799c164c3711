"""Remembers what hydra composes, so that the many trainings of the tests do not wait for it each time.

fairseq turns its flags into hundreds of overrides of a configuration, which hydra composes from a file for each of the
few chosen groups (``task=translation``).  Composing takes longer than the training of a small model.
"""

from __future__ import annotations

import copy
import functools

from fairseq.dataclass import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

compose = utils.compose


@functools.cache
def _composed(config_name: str, groups: tuple[str, ...], strict: bool) -> DictConfig:
    return compose(config_name, overrides=list(groups), strict=strict)


@functools.cache
def _parsed(override: str):
    return OverridesParser.create().parse_override(override)


def compose_once(config_name: str, overrides: list[str], strict: bool) -> DictConfig:
    """Return what hydra's ``compose`` returns; each choice of groups is composed once, each override parsed once."""
    groups = tuple(override for override in overrides if "." not in override.partition("=")[0])
    config = copy.deepcopy(_composed(config_name, groups, strict))
    others = [_parsed(override) for override in overrides if override not in groups]
    ConfigLoaderImpl._apply_overrides_to_config(others, config)
    return config


def install() -> None:
    """Have fairseq call :func:`compose_once`."""
    utils.compose = compose_once
