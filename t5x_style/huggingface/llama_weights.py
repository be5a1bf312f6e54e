"""LLaMA weights by their names in transformers, to and from our stacked parameters: names and shapes only.

Their projections are [out, in] a layer; ours are [layers, in, out] with heads as a dimension of their own. Rotary
halves are laid out alike, so no rows move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.models.config import DecoderConfig

_STACK = "trunk/segments/0/layers/0/"


def _layer_map(config: DecoderConfig) -> dict[str, tuple[str, tuple[int, ...], bool]]:
    """Their name within a layer -> (our path, our shape without the layers axis, whether it is transposed)."""
    layer = config.layers[0]
    spec, mlp, width = layer.attention, layer.mlp, config.embed_dim
    heads, groups = (spec.heads, spec.head_dim), (spec.kv_heads, spec.head_dim)
    names = {
        "input_layernorm.weight": ("attention_norm/scale", (width,), False),
        "post_attention_layernorm.weight": ("mlp_norm/scale", (width,), False),
        "self_attn.q_proj.weight": ("attention/query/kernel", (width, *heads), True),
        "self_attn.k_proj.weight": ("attention/key/kernel", (width, *groups), True),
        "self_attn.v_proj.weight": ("attention/value/kernel", (width, *groups), True),
        "self_attn.o_proj.weight": ("attention/output/kernel", (*heads, width), True),
        "mlp.gate_proj.weight": ("mlp/gate/kernel", (width, mlp.hidden), True),
        "mlp.up_proj.weight": ("mlp/up/kernel", (width, mlp.hidden), True),
        "mlp.down_proj.weight": ("mlp/down/kernel", (mlp.hidden, width), True),
    }
    if spec.qkv_bias:
        names["self_attn.q_proj.bias"] = ("attention/query/bias", heads, False)
        names["self_attn.k_proj.bias"] = ("attention/key/bias", groups, False)
        names["self_attn.v_proj.bias"] = ("attention/value/bias", groups, False)
    if spec.output_bias:
        names["self_attn.o_proj.bias"] = ("attention/output/bias", (width,), False)
    if mlp.bias:
        for theirs, ours, size in (("gate", "gate", mlp.hidden), ("up", "up", mlp.hidden), ("down", "down", width)):
            names[f"mlp.{theirs}_proj.bias"] = (f"mlp/{ours}/bias", (size,), False)
    return names


def from_huggingface(config: DecoderConfig, weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Our parameters by path ("embedding/table", ...) from theirs by name.

    Vocabulary rows that pad our table are zero.

    Raises:
      UserError: a missing or unexpected tensor, or one of another shape, by name.
    """
    _check_family(config)
    left = {name: value for name, value in weights.items() if not name.endswith("rotary_emb.inv_freq")}

    def take(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in left:
            raise UserError(f"tensor {name} is missing; the weights do not fit this LLaMA configuration")
        value = np.asarray(left.pop(name))
        if value.shape != shape:
            raise UserError(f"tensor {name} has shape {value.shape}, the configuration needs {shape}")
        return value

    def table(name: str) -> np.ndarray:
        rows = take(name, (config.vocab_size, config.embed_dim))
        return np.pad(rows, ((0, config.padded_vocab_size - config.vocab_size), (0, 0)))

    ours = {"embedding/table": table("model.embed_tokens.weight")}
    ours["final_norm/scale"] = take("model.norm.weight", (config.embed_dim,))
    if config.tied_embeddings:
        left.pop("lm_head.weight", None)  # their files sometimes hold the tied copy
    else:
        ours["unembedding/table"] = table("lm_head.weight")
    for theirs, (path, shape, transposed) in _layer_map(config).items():
        stored = _stored_shape(shape, transposed, path)
        layers = [take(f"model.layers.{index}.{theirs}", stored) for index in range(len(config.layers))]
        ours[_STACK + path] = np.stack([(layer.T if transposed else layer).reshape(shape) for layer in layers])
    if left:
        raise UserError(f"tensor {min(left)} is not part of this LLaMA configuration ({len(left)} such tensors)")
    return ours


def to_huggingface(config: DecoderConfig, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `from_huggingface`; padded vocabulary rows are cut off, a tied head is left out."""
    _check_family(config)
    theirs = {
        "model.embed_tokens.weight": np.asarray(parameters["embedding/table"])[: config.vocab_size],
        "model.norm.weight": np.asarray(parameters["final_norm/scale"]),
    }
    if not config.tied_embeddings:
        theirs["lm_head.weight"] = np.asarray(parameters["unembedding/table"])[: config.vocab_size]
    for name, (path, shape, transposed) in _layer_map(config).items():
        stored = _stored_shape(shape, transposed, path)
        for index, layer in enumerate(np.asarray(parameters[_STACK + path])):
            value = layer.reshape(stored[::-1]).T if transposed else layer.reshape(stored)
            theirs[f"model.layers.{index}.{name}"] = np.ascontiguousarray(value)
    return theirs


def _stored_shape(shape: tuple[int, ...], transposed: bool, path: str) -> tuple[int, ...]:
    """Their shape of a tensor: [out, in] for matrices, flat for vectors."""
    if not transposed:
        return (int(np.prod(shape)),)
    split = len(shape) - 1 if path == "attention/output/kernel" else 1
    return int(np.prod(shape[split:])), int(np.prod(shape[:split]))


def _check_family(config: DecoderConfig) -> None:
    plain = len(config.segments) == 1 and len(config.segments[0].pattern) == 1 and not config.segments[0].shared
    layer = config.layers[0]
    if not plain or layer.placement != "pre" or not layer.mlp.gated or layer.norm.kind != "rmsnorm":
        raise UserError(
            "this configuration is no LLaMA (one stack of gated pre-norm RMSNorm layers); choose its family"
        )
