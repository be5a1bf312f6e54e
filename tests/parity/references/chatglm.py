"""ChatGLM in slow numpy (float64), written position by position and head by head; shares nothing with our layers.

From the papers: bidirectional context followed by causal generation and two positions a token (Du et al. 2022, section
2.1 and figure 2); residuals of scaled normalised inputs, alpha = sqrt(2 * layers) (DeepNorm in GLM-130B, Zeng et al.
2023, section 2.1); rotary positions (Su et al. 2021, equation 34); SwiGLU (Shazeer 2020); RMSNorm (Zhang and Sennrich
2019).
From the code released with the weights, because no paper has it: names and order of fused tensors (per head query,
key, value where every head has its own; else all queries, all keys, all values); ChatGLM-6B turns the first half of a
head by the position and the second half by the block position, each half-split, with frequencies of half a head;
ChatGLM2 and later turn neighbouring dimensions of the first half of a head only; GELU in its tanh form; the block
position counts from 1 at the start id, whose position is that of the first [gMASK], or [MASK] where there is none; base
10000 times rope_ratio.
"""

from __future__ import annotations

import math

import numpy as np


def logits(settings, tensors, tokens):
    """[B, L, vocab] float64 of whole rows of ids [B, L]."""
    forward = _first if "inner_hidden_size" in settings else _second
    weights = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    return np.stack([forward(settings, weights, list(map(int, row))) for row in tokens])


def _linear(weights, name, x):
    bias = weights.get(f"{name}.bias")
    return x @ weights[f"{name}.weight"].T + (0.0 if bias is None else bias)


def _layer_norm(weights, name, x, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _rms_norm(weights, name, x, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weights[f"{name}.weight"]


def _softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _attend(queries, keys, values, sees):
    """One head: queries, keys, values [L, K]; sees[i] lists the keys that position i may look at."""
    out = np.zeros_like(queries)
    for i, visible in enumerate(sees):
        scores = np.array([queries[i] @ keys[j] for j in visible]) / math.sqrt(queries.shape[1])
        out[i] = _softmax(scores) @ values[visible]
    return out


def _turn(pair, angle):
    """Two numbers turned by an angle, as a complex product."""
    turned = complex(*pair) * complex(math.cos(angle), math.sin(angle))
    return turned.real, turned.imag


def _half_split(vector, position):
    """Dimension i with i + size / 2, at 10000^(-2i / size) radians a position."""
    size, out = len(vector), np.empty_like(vector)
    for i in range(size // 2):
        angle = position * 10000.0 ** (-2 * i / size)
        out[i], out[i + size // 2] = _turn((vector[i], vector[i + size // 2]), angle)
    return out


def _neighbours(vector, position, base):
    """Dimension 2i with 2i + 1."""
    size, out = len(vector), np.empty_like(vector)
    for i in range(size // 2):
        angle = position * base ** (-2 * i / size)
        out[2 * i], out[2 * i + 1] = _turn((vector[2 * i], vector[2 * i + 1]), angle)
    return out


def _places(settings, row):
    """(positions, block positions, length of the context) of ChatGLM-6B."""
    start, masks = settings["bos_token_id"], (settings["gmask_token_id"], settings["mask_token_id"])
    context = row.index(start) if start in row else len(row)
    hidden = next((row.index(mask) for mask in masks if mask in row), None)
    positions, blocks = [], []
    for i in range(len(row)):
        filling = i >= context
        positions.append(hidden if filling and hidden is not None else i)
        blocks.append(i - context + 1 if filling else 0)
    return positions, blocks, context


def _first(settings, weights, row):
    """ChatGLM-6B: [L, vocab]."""
    layers, heads = settings["num_layers"], settings["num_attention_heads"]
    size, epsilon = settings["hidden_size"] // heads, settings["layernorm_epsilon"]
    positions, blocks, context = _places(settings, row)
    length = len(row)
    sees = [[j for j in range(length) if j <= i or (i < context and j < context)] for i in range(length)]
    alpha = math.sqrt(2 * layers)
    x = weights["transformer.word_embeddings.weight"][row]
    for number in range(layers):
        name = f"transformer.layers.{number}."
        normed = _layer_norm(weights, f"{name}input_layernorm", x, epsilon)
        fused = _linear(weights, f"{name}attention.query_key_value", normed).reshape(length, heads, 3, size)
        attended = np.empty((length, heads, size))
        for head in range(heads):
            turned = []
            for part in (0, 1):
                halves = np.split(fused[:, head, part], 2, axis=-1)
                first = [_half_split(halves[0][i], positions[i]) for i in range(length)]
                second = [_half_split(halves[1][i], blocks[i]) for i in range(length)]
                turned.append(np.concatenate([first, second], axis=-1))
            attended[:, head] = _attend(*turned, fused[:, head, 2], sees)
        output = _linear(weights, f"{name}attention.dense", attended.reshape(length, -1))
        x = alpha * normed + output
        normed = _layer_norm(weights, f"{name}post_attention_layernorm", x, epsilon)
        inner = _linear(weights, f"{name}mlp.dense_h_to_4h", normed)
        inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = alpha * normed + _linear(weights, f"{name}mlp.dense_4h_to_h", inner)
    x = _layer_norm(weights, "transformer.final_layernorm", x, epsilon)
    return x @ weights["lm_head.weight"].T


def _second(settings, weights, row):
    """ChatGLM2, ChatGLM3, GLM-4: [L, vocab]."""
    heads, size, epsilon = settings["num_attention_heads"], settings["kv_channels"], settings["layernorm_epsilon"]
    norm = _rms_norm if settings["rmsnorm"] else _layer_norm
    base, length = 10000.0 * settings.get("rope_ratio", 1), len(row)
    sees = [list(range(i + 1)) for i in range(length)]
    normed_residual = settings["apply_residual_connection_post_layernorm"]
    x = weights["transformer.embedding.word_embeddings.weight"][row]
    for number in range(settings["num_layers"]):
        name = f"transformer.encoder.layers.{number}."
        normed = norm(weights, f"{name}input_layernorm", x, epsilon)
        fused = _linear(weights, f"{name}self_attention.query_key_value", normed)
        attended = np.empty((length, heads, size))
        for head in range(heads):
            q, k, v = _split(settings, fused, head)
            turned = []
            for part in (q, k):
                front = [_neighbours(part[i, : size // 2], i, base) for i in range(length)]
                turned.append(np.concatenate([front, part[:, size // 2 :]], axis=-1))
            attended[:, head] = _attend(*turned, v, sees)
        output = _linear(weights, f"{name}self_attention.dense", attended.reshape(length, -1))
        x = (normed if normed_residual else x) + output
        normed = norm(weights, f"{name}post_attention_layernorm", x, epsilon)
        gate, up = np.split(_linear(weights, f"{name}mlp.dense_h_to_4h", normed), 2, axis=-1)
        inner = gate / (1 + np.exp(-gate)) * up
        x = (normed if normed_residual else x) + _linear(weights, f"{name}mlp.dense_4h_to_h", inner)
    if settings["post_layer_norm"]:
        x = norm(weights, "transformer.encoder.final_layernorm", x, epsilon)
    return x @ weights["transformer.output_layer.weight"].T


def _split(settings, fused, head):
    """Query, key and value of one query head, each [L, K]."""
    heads, size = settings["num_attention_heads"], settings["kv_channels"]
    if not settings["multi_query_attention"]:
        return np.split(fused[:, 3 * size * head : 3 * size * (head + 1)], 3, axis=-1)
    groups = settings["multi_query_group_num"]
    group = head // (heads // groups)
    starts = (head * size, (heads + group) * size, (heads + groups + group) * size)
    return [fused[:, start : start + size] for start in starts]
