"""GPT-1: post-norm LayerNorm decoder with learned positions (Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import dropout
from t5x_style.huggingface.families import gpt2
from t5x_style.huggingface.weights.layouts import Flat, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"openai-gpt": "OpenAIGPTLMHeadModel"}
# In their files "gelu" stands for the tanh approximation, which is the paper's.
_ACTIVATIONS: dict[str, parts.Activation] = {"gelu": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu"}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json."""
    width, heads = settings["n_embd"], settings["n_head"]
    name = settings.get("afn", "gelu")
    if name not in _ACTIVATIONS:
        raise UserError(f"config.json: afn {name!r} is not known; known are {', '.join(_ACTIVATIONS)}")
    layer = parts.LayerSpec(
        parts.AttentionSpec(heads, heads, width // heads, rope=None, qkv_bias=True, output_bias=True),
        parts.MlpSpec(4 * width, _ACTIVATIONS[name], gated=False, bias=True),
        parts.NormSpec("layernorm", settings.get("layer_norm_epsilon", 1e-5)),
        placement="post",
    )
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["n_layer"]),),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", settings["n_positions"])),
    )


def to_config(config: parts.DecoderConfig, kind: str = "openai-gpt") -> dict[str, Any]:
    """Their config.json of our configuration; UserError where the format has no word for it."""
    layer, positions = config.layers[0], config.embedding.positions
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert positions is not None
    names = {ours: theirs for theirs, ours in _ACTIVATIONS.items() if theirs != "swish"}
    activation = layer.mlp.activation
    if activation not in names:
        raise UserError(f"{kind} has no activation {activation!r}; it has {', '.join(names)}")
    if layer.mlp.hidden != 4 * config.embed_dim:
        raise UserError(f"{kind} has feed-forward blocks of 4 x {config.embed_dim}, this model of {layer.mlp.hidden}")
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "n_embd": config.embed_dim,
        "n_layer": len(config.layers),
        "n_head": layer.attention.heads,
        "n_positions": positions.length,
        "afn": names[activation],
        "layer_norm_epsilon": layer.norm.epsilon,
        "tie_word_embeddings": config.tied_embeddings,
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors: GPT-2's names in the layers, others around them."""
    positions, width = config.embedding.positions, config.embed_dim
    assert positions is not None
    rows, table = (positions.length, width), Table(config.vocab_size, config.padded_vocab_size, width)
    outside = [
        one("transformer.tokens_embed.weight", "embedding/table", table),
        one("transformer.positions_embed.weight", "embedding/positions/table", Flat(rows, rows)),
    ]
    ignored = [r".*\.attn\.bias", r"transformer\.position_ids"]
    if config.tied_embeddings:
        ignored.append(r"lm_head\.weight")
    else:
        outside.append(one("lm_head.weight", "unembedding/table", table))
    layers = layer_rules(config, "transformer.h.{}.", lambda number: layer(config, number))
    return WeightMap(outside, layers, ignored)


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "transformer.h.N."; the norms come after attention and feed-forward."""
    for rule in gpt2.layer(config, number):
        if not rule.theirs.startswith("ln_"):
            yield rule
    yield from layer_norm("ln_1", "attention_post_norm", config.embed_dim)
    yield from layer_norm("ln_2", "mlp_post_norm", config.embed_dim)
