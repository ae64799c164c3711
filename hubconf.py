"""Entry points of ``torch.hub``."""

dependencies = ["torch", "fairseq", "sentencepiece"]


def b2t_transformer(model, checkpoint_file=None, data=None, int8=False, shortlist=None, bf16=False, **overrides):
    """Return a trained model that translates: see :func:`b2t_fairseq.hub.from_pretrained`.

    Args:
        model: the folder of a run, or a checkpoint file.
        checkpoint_file: which checkpoint of the folder.
        data: the folder with the dictionaries and ``spm.model``, if it is not the one that the model was trained on.
        int8: translate on a CPU with 8-bit weights.
        shortlist: a file of ``b2t shortlist``: translate with the target symbols that it has for the sentence.
        bf16: translate on a CPU with weights in bfloat16.
        **overrides: settings of the task or of the model.
    """
    from b2t_fairseq.hub import from_pretrained

    return from_pretrained(model, checkpoint_file, data, int8, shortlist, bf16, **overrides)
