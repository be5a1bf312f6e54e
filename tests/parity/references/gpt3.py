"""GPT-3 in slow numpy (float64), a query at a time; shares nothing with our layers.

From the papers: GPT-2's layers with the norm before each block and one after the last (Radford et al. 2019, section
2.3), dense and locally banded layers by turns (Brown et al. 2020, section 2.1), where a banded query sees itself and
the window - 1 positions before it (Child et al. 2019, section 4.2, the local half), GELU (Hendrycks and Gimpel 2016,
section 2, the tanh form).
From GPT-2's released code: names and orders of the weights, epsilon, the head tied to the embedding.
"""

from __future__ import annotations

import math

import numpy as np


def logits(settings, tensors, tokens):
    """[B, L, vocab] float64 of whole rows of ids [B, L]."""
    weights = {name.removeprefix("transformer."): np.asarray(value, np.float64) for name, value in tensors.items()}
    return np.stack([_row(settings, weights, list(map(int, row))) for row in tokens])


def _norm(weights, name, x):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def _dense(weights, name, x):
    return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _attended(queries, keys, values, window):
    """[L, K] of one head."""
    out = np.zeros_like(values)
    for query in range(len(queries)):
        first = 0 if window is None else max(0, query - window + 1)
        seen = range(first, query + 1)
        scores = np.array([queries[query] @ keys[key] for key in seen]) / math.sqrt(queries.shape[-1])
        shares = np.exp(scores - scores.max())
        shares /= shares.sum()
        out[query] = sum(share * values[key] for share, key in zip(shares, seen, strict=True))
    return out


def _row(settings, weights, row):
    heads, size = settings["n_head"], settings.get("head_dim") or settings["n_embd"] // settings["n_head"]
    x = weights["wte.weight"][row] + weights["wpe.weight"][: len(row)]
    for number, kind in enumerate(settings["attention_layers"]):
        window = settings["window_size"] if kind == "local" else None
        projected = _dense(weights, f"h.{number}.attn.c_attn", _norm(weights, f"h.{number}.ln_1", x))
        queries, keys, values = (part.reshape(len(row), heads, size) for part in np.split(projected, 3, axis=-1))
        seen = [_attended(queries[:, head], keys[:, head], values[:, head], window) for head in range(heads)]
        x = x + _dense(weights, f"h.{number}.attn.c_proj", np.concatenate(seen, axis=-1))
        inner = _dense(weights, f"h.{number}.mlp.c_fc", _norm(weights, f"h.{number}.ln_2", x))
        x = x + _dense(weights, f"h.{number}.mlp.c_proj", _gelu(inner))
    return _norm(weights, "ln_f", x) @ weights["wte.weight"].T
