"""Each scheme's equation written out in plain PyTorch: the reference for the models' layers."""

import torch
import torch.nn.functional as F

# of different depth, so that none can be taken for the other's
LAYERS = {"encoder": 6, "decoder": 4}


def attention(attn, query, source, mask):
    """Scaled dot-product attention, head by head: ``mask`` is true where a key is hidden, (query, key)."""
    queries, keys, values = attn.q_proj(query), attn.k_proj(source), attn.v_proj(source)
    heads = []
    for head in range(attn.num_heads):
        part = slice(head * attn.head_dim, (head + 1) * attn.head_dim)
        scores = queries[:, part] @ keys[:, part].T * attn.head_dim**-0.5
        heads.append(torch.softmax(scores.masked_fill(mask, float("-inf")), dim=-1) @ values[:, part])
    return attn.out_proj(torch.cat(heads, dim=-1))


def feed_forward(layer, x):
    return layer.fc2(F.relu(layer.fc1(x)))


def joined(scheme, layer, place, x, f, norm, layer_input):
    """The equations of the papers for one sub-layer; ``place`` is (stack, depth from 1, sub-layer from 0, of how many).

    A decoder's layers have two in a language model, three otherwise.
    """
    stack, depth, sublayer, sublayers = place
    encoder, last = stack == "encoder", sublayer == sublayers - 1
    n, m = LAYERS["encoder"], LAYERS["decoder"]
    if scheme == "post_ln" or (scheme == "b2t" and not last) or (scheme == "mix_ln" and depth <= LAYERS[stack] // 4):
        return norm(x + f(x))
    if scheme == "b2t":
        return norm(layer_input + x + f(x))
    if scheme in ("pre_ln", "mix_ln", "dlcl"):
        return x + f(norm(x))
    if scheme == "ln_scaling":
        return x + f(norm(x) / depth**0.5)
    if scheme == "admin":
        return norm(layer.residual.omega[sublayer] * x + f(x))
    if scheme == "deepnorm":
        return norm((0.81 * (n**4 * m) ** (1 / 16) if encoder else (sublayers * m) ** (1 / 4)) * x + f(x))
    if scheme == "rezero":
        return x + layer.residual.alpha * f(x)
    if scheme == "b2t_no_ln" and last:
        layers = LAYERS[stack]
        return min(layers**-0.15, layers / 12) * layer_input + 16**-0.2 * (x + f(x))
    assert scheme in ("t_fixup", "b2t_no_ln")
    return x + f(x)


def combination(stack, outputs):
    """DLCL: the input of the layer above ``outputs``, which are the embedding and the outputs of all layers below."""
    weights = stack.inputs[len(outputs) - 1].weights
    return sum(weights[k] * stack.inputs[k].norm(output) for k, output in enumerate(outputs))


def run_stack(scheme, stack, x, source=None):
    """All layers of a stack for one sentence; ``source``: the encoder's output, for a decoder that looks at one."""
    hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1) & (stack.name == "decoder")
    everything = None if source is None else torch.zeros(len(x), len(source), dtype=torch.bool)
    outputs = [x]
    for depth, layer in enumerate(stack.layers, 1):
        if scheme == "dlcl":
            x = combination(stack, outputs)
        sublayers = [
            (lambda q, layer=layer: attention(layer.self_attn, q, q, hidden), layer.self_attn_layer_norm),
            (lambda x, layer=layer: feed_forward(layer, x), layer.final_layer_norm),
        ]
        if source is not None:
            cross = lambda q, layer=layer: attention(layer.encoder_attn, q, source, everything)  # noqa: E731
            sublayers.insert(1, (cross, layer.encoder_attn_layer_norm))
        layer_input = x
        for sublayer, (f, norm) in enumerate(sublayers):
            x = joined(scheme, layer, (stack.name, depth, sublayer, len(sublayers)), x, f, norm, layer_input)
        outputs.append(x)
    if scheme == "dlcl":
        x = combination(stack, outputs)
    return stack.layer_norm(x) if scheme in ("pre_ln", "mix_ln", "ln_scaling", "dlcl") else x
