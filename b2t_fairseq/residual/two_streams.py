"""Schemes with two residual streams."""

from __future__ import annotations

from b2t_common.errors import InputError

from .contract import ResidualScheme


class ResiDual(ResidualScheme):
    """ResiDual, Xie et al. 2023 (arXiv 2304.14802): a Post-LN and a Pre-LN residual stream at once.

    Sub-layers read the Post-LN stream ``x``.  What they give is added to both streams, and no norm is on the stream
    ``r``, which is normalized once, after the stack, and added to ``x`` there.
    """

    name = "resi_dual"
    title = "ResiDual"
    equation = "x, r = LN(x + f(x)), r + f(x); after the stack: x + LN(r)"
    paper = "https://arxiv.org/abs/2304.14802"
    when_to_use = "any depth; the strongest rival of B2T in its paper's table"
    norm_after_stack = True
    num_streams = 2

    @classmethod
    def check(cls, settings, stack):
        if settings.no_decoder_final_norm:
            raise InputError(
                f"--no-decoder-final-norm cannot work with --residual {cls.name}, whose second stream is normalized "
                "after the stack only; drop the flag"
            )

    def connect(self, x, f, norm, layer_input, index):
        x, r = x
        output = f(x)
        return norm(x + output), r + output

    @classmethod
    def stack_output(cls, x, norm):
        x, r = x
        return x + norm(r)
