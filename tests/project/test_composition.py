"""The tests' own way to compose fairseq's configuration gives what hydra gives."""

from argparse import Namespace
from pathlib import Path

import composition
import fairseq
import pytest
from fairseq import options
from fairseq.dataclass import utils
from hydra import initialize_config_dir
from hydra.errors import ConfigCompositionException
from training import MODEL_FLAGS, SHARED, TRAIN_FLAGS

TRAINING = ["--save-dir", "a folder/with, signs = '1.2'", *MODEL_FLAGS, *TRAIN_FLAGS, *SHARED]
LANGUAGE_MODEL = ["--task", "language_modeling", "--arch", "b2t_transformer_lm", "--tokens-per-sample", "9"]


@pytest.mark.parametrize("flags", [TRAINING, LANGUAGE_MODEL, ["--arch", "transformer"]], ids=["mt", "lm", "fairseqs"])
def test_it_is_what_hydra_composes(flags, monkeypatch):
    args = options.parse_args_and_arch(options.get_training_parser(), ["data", *flags])
    configurations = [utils.convert_namespace_to_omegaconf(args) for _ in range(2)]
    monkeypatch.setattr(utils, "compose", composition.compose)
    configurations.append(utils.convert_namespace_to_omegaconf(args))
    assert configurations[0] == configurations[1] == configurations[2]
    assert isinstance(configurations[0].model, Namespace) == isinstance(configurations[2].model, Namespace)


def test_a_wrong_value_is_refused_as_by_hydra():
    messages = []
    for compose in (composition.compose_once, composition.compose):
        with (
            initialize_config_dir(str(Path(fairseq.__file__).parent / "config")),
            pytest.raises(ConfigCompositionException, match=r"common\.seed") as caught,
        ):
            compose("config", overrides=["common.seed=seven"], strict=False)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
