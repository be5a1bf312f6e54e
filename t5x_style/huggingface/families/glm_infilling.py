"""GLM as first published (Du et al. 2022): pre-norm LayerNorm decoder with two tables of learned positions.

Its files share model_type "glm" with GLM-4 of transformers; their config.json has `block_position_encoding` and needs
code of its own. Without positions and attention of its own a call is causal, positions count from 0 and stand within no
block; a caller that fills in blocks gives `positions` [B, L, 2] and `causal_attention`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import dropout
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"glm": "GLMForConditionalGeneration"}


def accepts(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json of model_type "glm" is of this family."""
    return "max_sequence_length" in settings


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: relative positions (Transformer-XL's), which no published GLM has.
    """
    if settings.get("relative_encoding"):
        raise UserError("config.json: relative_encoding is true; no published GLM has it")
    width, heads = settings["hidden_size"], settings["num_attention_heads"]
    blocks = settings.get("block_position_encoding", True)
    norm = parts.NormSpec("layernorm", settings.get("layernorm_epsilon", 1e-5))
    attention = parts.AttentionSpec(heads, heads, width // heads, rope=None, qkv_bias=True, output_bias=True)
    mlp = parts.MlpSpec(4 * width, "gelu_tanh", gated=False, bias=True)
    rows = settings["max_sequence_length"] + (1 if blocks else 0)
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings, "glm_infilling"),
        segments=(parts.LayerGroup((parts.LayerSpec(attention, mlp, norm),), settings["num_layers"]),),
        final_norm=norm,
        tied_embeddings=True,
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", rows, blocks=blocks)),
    )


def to_config(config: parts.DecoderConfig, kind: str = "glm") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer, positions = config.layers[0], config.embedding.positions
    assert positions is not None
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, "glm_infilling"),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_layers": len(config.layers),
        "num_attention_heads": layer.attention.heads,
        "max_sequence_length": positions.length - (1 if positions.blocks else 0),
        "block_position_encoding": positions.blocks,
        "relative_encoding": False,
        "layernorm_epsilon": layer.norm.epsilon,
        "output_predict": True,
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors."""
    positions, width = config.embedding.positions, config.embed_dim
    assert positions is not None
    rows = Flat((positions.length, width), (positions.length, width))
    table = Table(config.vocab_size, config.padded_vocab_size, width)
    outside = [
        one("glm.word_embeddings.weight", "embedding/table", table),
        one("glm.transformer.position_embeddings.weight", "embedding/positions/table", rows),
        *layer_norm("glm.transformer.final_layernorm", "final_norm", width),
    ]
    if positions.blocks:
        name = "glm.transformer.block_position_embeddings.weight"
        outside.append(one(name, "embedding/block_positions/table", rows))
    return WeightMap(outside, layer_rules(config, "glm.transformer.layers.{}.", lambda number: layer(config, number)))


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "glm.transformer.layers.N."; queries, keys, values follow each other."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    yield from layer_norm("input_layernorm", "attention_norm", width)
    yield from layer_norm("post_attention_layernorm", "mlp_norm", width)
    names = [f"attention/{name}/" for name in ("query", "key", "value")]
    yield fused("attention.query_key_value.weight", {f"{name}kernel": Matrix((width,), heads) for name in names})
    yield fused("attention.query_key_value.bias", {f"{name}bias": Flat(heads) for name in names})
    yield one("attention.dense.weight", "attention/output/kernel", Matrix(heads, (width,)))
    yield one("attention.dense.bias", "attention/output/bias", Flat((width,)))
    yield one("mlp.dense_h_to_4h.weight", "mlp/up/kernel", Matrix((width,), (hidden,)))
    yield one("mlp.dense_h_to_4h.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("mlp.dense_4h_to_h.weight", "mlp/down/kernel", Matrix((hidden,), (width,)))
    yield one("mlp.dense_4h_to_h.bias", "mlp/down/bias", Flat((width,)))
