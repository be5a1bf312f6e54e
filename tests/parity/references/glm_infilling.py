"""The first GLM in slow numpy (float64); shares nothing with our layers.

From the paper (Du et al. 2022, section 2.2): norm before each block, GELU, one linear layer over the embedding table
for tokens, two tables of positions added to the embeddings (section 2.1). From the code released with the weights:
names, queries, keys and values one behind the other, GELU in its tanh form, a last norm, causal attention and block
position 0 where a call gives neither.
"""

from __future__ import annotations

import math

import numpy as np


def logits(settings, tensors, tokens):
    """[B, L, vocab] float64 of whole rows of ids [B, L]."""
    weights = {name.removeprefix("glm."): np.asarray(value, np.float64) for name, value in tensors.items()}
    places = [(position, 0) for position in range(tokens.shape[1])]
    return np.stack([infilled(settings, weights, list(map(int, row)), places, 0) for row in tokens])


def infilled(settings, weights, row, places, context):
    """[L, vocab] of one row with (position, block position) a token, whose first `context` ids see each other."""
    table, length = weights["word_embeddings.weight"], len(row)
    x = table[row] + weights["transformer.position_embeddings.weight"][[place[0] for place in places]]
    if settings["block_position_encoding"]:
        x = x + weights["transformer.block_position_embeddings.weight"][[place[1] for place in places]]
    for number in range(settings["num_layers"]):
        name = f"transformer.layers.{number}."
        normed = _norm(weights, f"{name}input_layernorm", x)
        fused = _linear(weights, f"{name}attention.query_key_value", normed)
        queries, keys, values = (
            part.reshape(length, settings["num_attention_heads"], -1) for part in np.split(fused, 3, 1)
        )
        out = np.empty_like(queries)
        for i in range(length):
            seen = max(i + 1, context if i < context else 0)
            for head in range(queries.shape[1]):
                scores = keys[:seen, head] @ queries[i, head] / math.sqrt(queries.shape[2])
                chances = np.exp(scores - scores.max())
                out[i, head] = chances / chances.sum() @ values[:seen, head]
        x = x + _linear(weights, f"{name}attention.dense", out.reshape(length, -1))
        inner = _linear(weights, f"{name}mlp.dense_h_to_4h", _norm(weights, f"{name}post_attention_layernorm", x))
        inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + _linear(weights, f"{name}mlp.dense_4h_to_h", inner)
    return _norm(weights, "transformer.final_layernorm", x) @ table.T


def _linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights, name, x, epsilon=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )
