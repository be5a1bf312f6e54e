"""ChatGLM in the files of its authors: ChatGLM-6B, and the second design of ChatGLM2, ChatGLM3 and GLM-4-9B.

Both have model_type "chatglm". ChatGLM-6B (Zeng et al. 2023) scales normalised residuals, has LayerNorm and plain GELU,
sees its prompt in both directions, and counts positions in two dimensions. From ChatGLM2 on the model is a causal
gated RMSNorm decoder with grouped queries and interleaved rotary positions on half of each head. config.json of the
second design has `ffn_hidden_size`, of the first `inner_hidden_size`.

Their query scaling by layer (`apply_query_key_layer_scaling`) divides scores before they are masked and multiplies
them behind it: half precision needs that, the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.huggingface import dropout
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"chatglm": "ChatGLMForConditionalGeneration"}
# Ids where config.json of ChatGLM-6B is silent: those of the first release, whose code had them as constants.
_FIRST_RELEASE = {"mask_token_id": 150000, "gmask_token_id": 150001, "bos_token_id": 150004}
# Ids of the later release, which the published vocabulary of 130,528 belongs to.
_PUBLISHED = {
    "mask_token_id": 130000,
    "gmask_token_id": 130001,
    "bos_token_id": 130004,
    "eos_token_id": 130005,
    "pad_token_id": 3,
}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: a trained prefix (P-tuning) or quantised weights, which are no part of the model.
    """
    for name in ("pre_seq_len", "quantization_bit"):
        if settings.get(name):
            raise UserError(f"config.json: {name} is {settings[name]}; give the folder of the plain model without it")
    return _first_from_config(settings) if _is_first(settings) else _second_from_config(settings)


def _is_first(settings: Mapping[str, Any]) -> bool:
    return "ffn_hidden_size" not in settings and "padded_vocab_size" not in settings


def _first_from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    if not settings.get("position_encoding_2d", True):
        raise UserError("config.json: position_encoding_2d is false; no published ChatGLM-6B is without it")
    width, heads, layers = settings["hidden_size"], settings["num_attention_heads"], settings["num_layers"]
    norm = parts.NormSpec("layernorm", settings.get("layernorm_epsilon", 1e-5))
    attention = parts.AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        rope=parts.RopeSpec(two_dimensional=True),
        qkv_bias=True,
        output_bias=True,
    )
    mlp = parts.MlpSpec(settings.get("inner_hidden_size") or 4 * width, "gelu_tanh", gated=False, bias=True)
    layer = parts.LayerSpec(attention, mlp, norm, placement="normed", residual_scale=(2 * layers) ** 0.5)
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), layers),),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", False),
    )


def _second_from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    groups = settings.get("multi_query_group_num", 1) if settings.get("multi_query_attention") else None
    if groups == heads:  # its tensors would lie in another order than those of multi-head attention
        raise UserError(f"config.json: multi_query_group_num is {groups}, as num_attention_heads; give fewer groups")
    head_dim = settings.get("kv_channels") or width // heads
    epsilon = settings.get("layernorm_epsilon", 1e-5)
    norm = parts.NormSpec("rmsnorm" if settings.get("rmsnorm", True) else "layernorm", epsilon)
    linear_bias = settings.get("add_bias_linear", False)
    attention = parts.AttentionSpec(
        heads=heads,
        kv_heads=heads if groups is None else groups,
        head_dim=head_dim,
        rope=parts.RopeSpec(10000.0 * settings.get("rope_ratio", 1), dim=head_dim // 2, interleaved=True),
        qkv_bias=linear_bias or settings.get("add_qkv_bias", False),
        output_bias=linear_bias,
    )
    mlp = parts.MlpSpec(settings["ffn_hidden_size"], "silu", bias=linear_bias)
    normed = settings.get("apply_residual_connection_post_layernorm", False)
    layer = parts.LayerSpec(attention, mlp, norm, placement="normed" if normed else "pre")
    return parts.DecoderConfig(
        vocab_size=settings.get("padded_vocab_size") or settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["num_layers"]),),
        final_norm=norm if settings.get("post_layer_norm", True) else None,
        tied_embeddings=settings.get("tie_word_embeddings", False),
    )


def _is_first_design(config: parts.DecoderConfig) -> bool:
    rope = config.layers[0].attention.rope
    return rope is not None and rope.two_dimensional


def to_config(config: parts.DecoderConfig, kind: str = "chatglm") -> dict[str, Any]:
    """Their config.json of our configuration; ids of special tokens only where the published vocabulary has them."""
    layer = config.layers[0]
    spec, mlp = layer.attention, layer.mlp
    assert isinstance(mlp, parts.MlpSpec)
    settings: dict[str, Any] = {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_layers": len(config.layers),
        "num_attention_heads": spec.heads,
        "layernorm_epsilon": layer.norm.epsilon,
        "tie_word_embeddings": config.tied_embeddings,
    }
    if _is_first_design(config):
        settings |= {"inner_hidden_size": mlp.hidden, "position_encoding_2d": True, "max_sequence_length": 2048}
        return settings | (_PUBLISHED if config.vocab_size == 130528 else {})
    assert spec.rope is not None
    ratio = spec.rope.base / 10000.0
    return settings | {
        "padded_vocab_size": config.vocab_size,
        "ffn_hidden_size": mlp.hidden,
        "kv_channels": spec.head_dim,
        "rmsnorm": layer.norm.kind == "rmsnorm",
        "multi_query_attention": spec.kv_heads != spec.heads,
        "multi_query_group_num": spec.kv_heads,
        "add_bias_linear": mlp.bias,
        "add_qkv_bias": spec.qkv_bias,
        "apply_residual_connection_post_layernorm": layer.placement == "normed",
        "post_layer_norm": config.final_norm is not None,
        "original_rope": True,
        "rope_ratio": int(ratio) if ratio.is_integer() else ratio,
    }


def inputs(row: np.ndarray, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Positions and bidirectional context of one row of ids without padding; {} from ChatGLM2 on.

    The context, all before the first start id (bos_token_id), sees itself in both directions and has its usual
    positions, beside 0. What follows, the start id included, has the position of the first [gMASK], or else of the
    first [MASK], beside 1, 2, ... Worked example, start id 9, [gMASK] 8:

        row               5 6 8 9 7 7
        positions[:, 0]   0 1 2 2 2 2
        positions[:, 1]   0 0 0 1 2 3
        causal_attention  1 1 1 0 0 0

    A row without a start id is context from end to end, one without a mask keeps its usual positions (the released
    tokenizer's rules).

    Args:
      row: [L] ids. settings: their config.json.

    Returns:
      positions int32 [L, 2] and causal_attention int32 [L].
    """
    if not _is_first(settings):
        return {}
    ids = {name: settings.get(name, default) for name, default in _FIRST_RELEASE.items()}
    tokens = np.asarray(row)
    context = _first_place(tokens, ids["bos_token_id"], len(tokens))
    positions = np.stack([np.arange(len(tokens)), np.maximum(np.arange(len(tokens)) - context + 1, 0)], axis=-1)
    mask = ids["gmask_token_id"] if np.any(tokens == ids["gmask_token_id"]) else ids["mask_token_id"]
    where = _first_place(tokens, mask, -1)
    if where >= 0:
        positions[context:, 0] = where
    return {
        "positions": positions.astype(np.int32),
        "causal_attention": (np.arange(len(tokens)) < context).astype(np.int32),
    }


def _first_place(tokens: np.ndarray, token: int, otherwise: int) -> int:
    found = np.flatnonzero(tokens == token)
    return int(found[0]) if len(found) else otherwise


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors."""
    table = Table(config.vocab_size, config.padded_vocab_size, config.embed_dim)
    first = _is_first_design(config)
    embedding = "word_embeddings" if first else "embedding.word_embeddings"
    head = "lm_head.weight" if first else "transformer.output_layer.weight"
    trunk = "transformer" if first else "transformer.encoder"
    outside = [one(f"transformer.{embedding}.weight", "embedding/table", table)]
    if config.final_norm is not None:
        outside += _norm(config.final_norm, f"{trunk}.final_layernorm", "final_norm", config.embed_dim)
    if not config.tied_embeddings:
        outside.append(one(head, "unembedding/table", table))
    ignored = [r".*rotary.*\.inv_freq"] + ([head.replace(".", r"\.")] if config.tied_embeddings else [])
    return WeightMap(
        outside, layer_rules(config, f"{trunk}.layers.{{}}.", lambda number: layer(config, number)), ignored
    )


def _norm(spec: parts.NormSpec, theirs: str, ours: str, width: int) -> list[Rule]:
    if spec.kind == "layernorm":
        return layer_norm(theirs, ours, width)
    return [one(f"{theirs}.weight", f"{ours}/scale", Flat((width,)))]


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer.

    Multi-head attention fuses head by head (a head's query, key, value, then the next head's), grouped queries are
    fused one behind the other.
    """
    spec, width = config.layers[number], config.embed_dim
    attention, mlp = spec.attention, spec.mlp
    assert isinstance(mlp, parts.MlpSpec)
    yield from _norm(spec.norm, "input_layernorm", "attention_norm", width)
    yield from _norm(spec.norm, "post_attention_layernorm", "mlp_norm", width)
    prefix = "attention" if _is_first_design(config) else "self_attention"
    heads, groups = (attention.heads, attention.head_dim), (attention.kv_heads, attention.head_dim)
    outputs = {"query": heads, "key": groups, "value": groups}
    split = attention.heads if attention.kv_heads == attention.heads else 1
    kernels = {f"attention/{name}/kernel": Matrix((width,), shape) for name, shape in outputs.items()}
    yield fused(f"{prefix}.query_key_value.weight", kernels, split)
    if attention.qkv_bias:
        biases = {f"attention/{name}/bias": Flat(shape) for name, shape in outputs.items()}
        yield fused(f"{prefix}.query_key_value.bias", biases, split)
    yield one(f"{prefix}.dense.weight", "attention/output/kernel", Matrix(heads, (width,)))
    if attention.output_bias:
        yield one(f"{prefix}.dense.bias", "attention/output/bias", Flat((width,)))
    yield from _mlp(mlp, width)


def _mlp(mlp: parts.MlpSpec, width: int) -> Iterator[Rule]:
    names = ("gate", "up") if mlp.gated else ("up",)
    inward, bias = Matrix((width,), (mlp.hidden,)), Flat((mlp.hidden,))
    yield fused("mlp.dense_h_to_4h.weight", {f"mlp/{name}/kernel": inward for name in names})
    yield one("mlp.dense_4h_to_h.weight", "mlp/down/kernel", Matrix((mlp.hidden,), (width,)))
    if mlp.bias:
        yield fused("mlp.dense_h_to_4h.bias", {f"mlp/{name}/bias": bias for name in names})
        yield one("mlp.dense_4h_to_h.bias", "mlp/down/bias", Flat((width,)))
