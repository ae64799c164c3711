"""Why a model trains or does not: gradients and activations by depth, on real sentences (``b2t analyze``)."""
