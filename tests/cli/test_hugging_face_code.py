"""``b2t convert --to transformers``, without that library: which code a model gets, and which models are refused."""

import inspect
import sys

import pytest
from helpers import make_batch
from hugging_face import model_and_state
from language_models import make_lm

from b2t_cli import main as b2t
from b2t_cli.conversion.hugging_face import conversion
from b2t_cli.conversion.hugging_face.model import by_module
from b2t_cli.conversion.hugging_face.scheme_source import scheme_source
from b2t_common.errors import InputError
from b2t_fairseq.residual import SCHEMES, ResidualScheme


def test_entries_of_tied_parameters_name_whole_modules_where_they_can():
    tied = {"b.x.w": "a.x.w", "b.x.v": "a.x.v", "b.y.w": "a.y.w", "c.w": "a.x.w"}
    names = [*tied, "a.x.w", "a.x.v", "a.y.w", "a.y.v", "b.y.v"]
    assert by_module(tied, names) == {"b.x": "a.x", "b.y.w": "a.y.w", "c": "a.x"}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=list(SCHEMES))
def test_the_code_of_a_scheme_is_that_of_the_plugin(scheme):
    """The methods that a trained model calls are copied as they are, and nothing of fairseq or of ours is imported."""
    text = scheme_source(scheme)
    assert inspect.getsource(scheme.connect) in text
    assert inspect.getsource(scheme.stack_output.__func__) in text
    imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in imports if "fairseq" in line or "b2t" in line]
    names = {}
    exec(compile(text, "residual_b2t.py", "exec"), names)
    for flag in ("has_norms", "norm_inside", "num_streams", "norm_after_stack", "norm_of_embedding"):
        assert getattr(names["SCHEME"], flag) == getattr(scheme, flag)
    assert not hasattr(names["SCHEME"], "check")


class NeedsFairseq(ResidualScheme):
    name, title, equation = "needs_fairseq", "Needs fairseq", "x"

    def connect(self, x, f, norm, layer_input, index):
        return x if make_batch() else f(x)


class NeedsThePlugin(NeedsFairseq):
    def connect(self, x, f, norm, layer_input, index):
        return x if InputError else f(x)


def test_a_scheme_that_needs_more_than_torch_is_refused():
    with pytest.raises(InputError, match=r"uses b2t_common\.errors\.InputError, which is not in the folder of a model"):
        scheme_source(NeedsThePlugin)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"adaptive_softmax_cutoff": [8, 16], "share_all_embeddings": False},
            r"cutoff \[8, 16\]: an adaptive soft",
        ),
        ({"cross_self_attention": True}, "--cross-self-attention: its self-attention reads the source too"),
        ({"no_cross_attention": True}, "--no-cross-attention: a decoder without cross-attention"),
    ],
)
def test_models_that_the_code_does_not_support(flags, message):
    _, state = model_and_state(**flags)
    with pytest.raises(InputError, match=message):
        conversion.model_files(state, "transformers")


def test_a_language_model_is_refused():
    settings = {"_name": "b2t_transformer_lm", "residual": "b2t", "layer_sharing": "none"}
    with pytest.raises(InputError, match="of the model b2t_transformer_lm; only translation models"):
        conversion.model_files({"cfg": {"model": settings}, "model": make_lm().state_dict()}, "transformers")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"residual": "b2t"}, "--residual b2t cannot be written as FSMT, which is Post-LN, LN"),
        ({"norm": "rms_norm"}, "--norm rms_norm: FSMT has LayerNorm only; use --to transformers"),
        ({"positions": "learned"}, "learned positions: FSMT has sinusoidal positions only"),
        ({"layernorm_embedding": True}, "--layernorm-embedding: FSMT does not have that"),
        ({"no_token_positional_embeddings": True}, "--no-token-positional-embeddings: FSMT does not"),
        ({"share_all_embeddings": False, "decoder_output_dim": 8}, "--decoder-output-dim 8: FSMT has one width"),
        ({"activation_fn": "relu_squared"}, "--activation-fn relu_squared: FSMT does not have that"),
    ],
)
def test_models_that_fsmt_does_not_have_are_refused(flags, message):
    _, state = model_and_state(**{"residual": "post_ln", **flags})
    with pytest.raises(InputError, match=message):
        conversion.model_files(state, "fsmt")


def test_the_library_is_missing(tmp_path, monkeypatch):
    """Nothing is written, and the message says what to install."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    _, state = model_and_state()
    files = conversion.model_files(state, "transformers")
    with pytest.raises(InputError, match="pip install transformers safetensors"):
        conversion.write_folder(files, state, tmp_path / "model.pt", tmp_path / "model", {})
    assert not list(tmp_path.iterdir())


def test_flags_of_the_tokenizer_are_for_these_targets(tmp_path, capsys):
    """With others they would have no effect."""
    for flag, value in (("--data", "bin"), ("--source-lang", "en")):
        assert b2t(["convert", str(tmp_path / "x.pt"), str(tmp_path / "y.pt"), flag, value]) == 1
        message = f"{flag} {value} has no effect with --to plugin, which writes no tokenizer; drop it"
        assert message in capsys.readouterr().err
