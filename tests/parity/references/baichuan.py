"""Baichuan 1 and 2 in slow numpy (float64), head by head; shares nothing with our layers.

From the papers: LLaMA's layers (Touvron et al. 2023, section 2.2), rotary positions in the 7B and ALiBi in the 13B
models, the normalised head (Baichuan 2, Yang et al. 2023, sections 2.3 to 2.5); ALiBi's slopes (Press et al. 2022,
section 3).
From the code released with the weights: the name W_pack and its order (queries, keys, values); slopes of head counts
that are no power of two (those of the next lower power, then every other one of twice that power); rows of the head
divided by their length, at least 1e-12; ALiBi's bias as slope times the key's place, the same up to a number a row.
"""

from __future__ import annotations

import math

import numpy as np


def logits(settings, tensors, tokens):
    """[B, L, vocab] float64 of whole rows of ids [B, L]."""
    weights = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    return np.stack([_row(settings, weights, list(map(int, row))) for row in tokens])


def slopes(heads):
    """ALiBi's slope of every head."""

    def power_of_two(count):
        return [2.0 ** (-8.0 * (i + 1) / count) for i in range(count)]

    lower = 1
    while 2 * lower <= heads:
        lower *= 2
    return power_of_two(lower) + power_of_two(2 * lower)[0::2][: heads - lower]


def _norm(weights, name, x, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * weights[f"{name}.weight"]


def _rotated(x, base):
    """[L, K]: dimension i turns with i + K / 2."""
    length, size = x.shape
    out = np.empty_like(x)
    for position in range(length):
        for i in range(size // 2):
            angle = position * base ** (-2 * i / size)
            turned = complex(x[position, i], x[position, i + size // 2]) * complex(math.cos(angle), math.sin(angle))
            out[position, i], out[position, i + size // 2] = turned.real, turned.imag
    return out


def _row(settings, weights, row):
    heads, width, epsilon = settings["num_attention_heads"], settings["hidden_size"], settings["rms_norm_eps"]
    size, length = width // heads, len(row)
    rotary = "max_position_embeddings" in settings
    x = weights["model.embed_tokens.weight"][row]
    for number in range(settings["num_hidden_layers"]):
        name = f"model.layers.{number}."
        normed = _norm(weights, f"{name}input_layernorm", x, epsilon)
        queries, keys, values = np.split(normed @ weights[f"{name}self_attn.W_pack.weight"].T, 3, axis=-1)
        out = np.empty_like(queries)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            q, k, v = queries[:, own], keys[:, own], values[:, own]
            if rotary:
                q, k = _rotated(q, 10000.0), _rotated(k, 10000.0)
            for i in range(length):
                scores = k[: i + 1] @ q[i] / math.sqrt(size)
                if not rotary:
                    scores = scores + slopes(heads)[head] * np.arange(i + 1)
                chances = np.exp(scores - scores.max())
                out[i, own] = chances / chances.sum() @ v[: i + 1]
        x = x + out @ weights[f"{name}self_attn.o_proj.weight"].T
        normed = _norm(weights, f"{name}post_attention_layernorm", x, epsilon)
        gate, up = (normed @ weights[f"{name}mlp.{part}_proj.weight"].T for part in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{name}mlp.down_proj.weight"].T
    x = _norm(weights, "model.norm", x, epsilon)
    head = weights["lm_head.weight"]
    if "z_loss_weight" in settings:
        head = head / np.maximum(np.linalg.norm(head, axis=-1, keepdims=True), 1e-12)
    return x @ head.T
