"""BLOOM: pre-norm LayerNorm decoder with ALiBi and a norm on the embedding (Scao et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.huggingface import dropout
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"bloom": "BloomForCausalLM"}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json, whose published files have older names of some settings."""
    older = {"n_embed": "hidden_size", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
    settings = {**settings, **{new: settings[old] for old, new in older.items() if settings.get(old) is not None}}
    width, heads = settings["hidden_size"], settings["n_head"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_epsilon", 1e-5))
    attention = parts.AttentionSpec(
        heads, heads, width // heads, rope=None, alibi=True, qkv_bias=True, output_bias=True
    )
    mlp = parts.MlpSpec(4 * width, "gelu_tanh", gated=False, bias=True)
    normed = settings.get("apply_residual_connection_post_layernorm", False)
    layer = parts.LayerSpec(attention, mlp, norm, placement="normed" if normed else "pre")
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["n_layer"]),),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        embedding=parts.EmbeddingSpec(norm=norm),
    )


def to_config(config: parts.DecoderConfig, kind: str = "bloom") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer = config.layers[0]
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "n_layer": len(config.layers),
        "n_head": layer.attention.heads,
        "layer_norm_epsilon": layer.norm.epsilon,
        "apply_residual_connection_post_layernorm": layer.placement == "normed",
        "tie_word_embeddings": config.tied_embeddings,
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors."""
    table = Table(config.vocab_size, config.padded_vocab_size, config.embed_dim)
    outside = [one("transformer.word_embeddings.weight", "embedding/table", table)]
    for theirs, ours in (("word_embeddings_layernorm", "embedding/norm"), ("ln_f", "final_norm")):
        outside += layer_norm(f"transformer.{theirs}", ours, config.embed_dim)
    ignored = [r"lm_head\.weight"] if config.tied_embeddings else []
    if not config.tied_embeddings:
        outside.append(one("lm_head.weight", "unembedding/table", table))
    layers = layer_rules(config, "transformer.h.{}.", lambda number: layer(config, number))
    return WeightMap(outside, layers, ignored)


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer; queries, keys and values lie head by head in one tensor."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    yield from layer_norm("input_layernorm", "attention_norm", width)
    yield from layer_norm("post_attention_layernorm", "mlp_norm", width)
    names = [f"attention/{name}/" for name in ("query", "key", "value")]
    qkv = "self_attention.query_key_value"
    yield fused(f"{qkv}.weight", {f"{name}kernel": Matrix((width,), heads) for name in names}, heads[0])
    yield fused(f"{qkv}.bias", {f"{name}bias": Flat(heads) for name in names}, heads[0])
    yield one("self_attention.dense.weight", "attention/output/kernel", Matrix(heads, (width,)))
    yield one("self_attention.dense.bias", "attention/output/bias", Flat((width,)))
    yield one("mlp.dense_h_to_4h.weight", "mlp/up/kernel", Matrix((width,), (hidden,)))
    yield one("mlp.dense_h_to_4h.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("mlp.dense_4h_to_h.weight", "mlp/down/kernel", Matrix((hidden,), (width,)))
    yield one("mlp.dense_4h_to_h.bias", "mlp/down/bias", Flat((width,)))
