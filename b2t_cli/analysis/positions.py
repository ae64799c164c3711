"""The positions in a layer at which gradients are measured.

They are those of the B2T paper's section 3, counted from the bottom: the layer's input, the input and output of every
norm, and the layer's output unless a norm gives it.  So an encoder layer has five and a decoder layer with
cross-attention seven, in Post-LN and in Pre-LN.  Norms that a scheme adds to these are no positions.
"""

INPUT, BEFORE_NORM, AFTER_NORM, OUTPUT = "input", "before norm", "after norm", "output"
"""``INPUT`` is also the position before a sub-layer that has no norm."""
