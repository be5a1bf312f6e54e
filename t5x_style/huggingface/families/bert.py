"""BERT, RoBERTa and SpanBERT: post-norm encoders with learned positions (Devlin et al. 2019, Liu et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import config as parts

MODEL_TYPES = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM"}


def from_config(settings: Mapping[str, Any]) -> parts.EncoderConfig:
    """Our configuration of their config.json."""
    heads, width = settings["num_attention_heads"], settings["hidden_size"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_eps", 1e-12))
    kind = activation(settings["hidden_act"])
    attention = parts.AttentionSpec(
        heads, heads, width // heads, causal=False, rope=None, qkv_bias=True, output_bias=True
    )
    layer = parts.LayerSpec(
        attention, parts.MlpSpec(settings["intermediate_size"], kind, gated=False, bias=True), norm, placement="post"
    )
    roberta = settings["model_type"] == "roberta"
    # RoBERTa counts positions from behind its padding id, and its head's activation is always gelu.
    offset = settings.get("pad_token_id", 1) + 1 if roberta else 0
    positions = parts.PositionSpec("learned", settings["max_position_embeddings"], offset)
    return parts.EncoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        segments=(parts.Segment((layer,), settings["num_hidden_layers"]),),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        head=parts.HeadSpec(bias=True, transform="gelu" if roberta else kind, transform_norm=norm),
        embedding=parts.EmbeddingSpec(types=settings.get("type_vocab_size", 2), positions=positions, norm=norm),
    )


def to_config(config: parts.EncoderConfig, kind: str = "bert") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer, positions = config.layers[0], config.embedding.positions
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert positions is not None
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": layer.attention.heads,
        "intermediate_size": layer.mlp.hidden,
        "hidden_act": their_activation(layer.mlp.activation),
        "layer_norm_eps": layer.norm.epsilon,
        "max_position_embeddings": positions.length,
        "type_vocab_size": config.embedding.types,
        "pad_token_id": positions.offset - 1 if kind == "roberta" else 0,
        "tie_word_embeddings": config.tied_embeddings,
    }


def weight_map(config: parts.EncoderConfig) -> WeightMap:
    """Their tensors; which of the two families it is shows in the offset of the positions."""
    positions, width = config.embedding.positions, config.embed_dim
    assert positions is not None
    roberta = positions.offset > 0
    base = "roberta" if roberta else "bert"
    head = "lm_head." if roberta else "cls.predictions."
    dense, norm = ("dense", "layer_norm") if roberta else ("transform.dense", "transform.LayerNorm")
    table = Table(config.vocab_size, config.padded_vocab_size, width)
    rows = (positions.length, width)
    types = (config.embedding.types, width)
    whole = [
        one(f"{base}.embeddings.word_embeddings.weight", "embedding/table", table),
        one(f"{base}.embeddings.position_embeddings.weight", "embedding/positions/table", Flat(rows, rows)),
        one(f"{base}.embeddings.token_type_embeddings.weight", "embedding/types/table", Flat(types, types)),
        one(f"{head}bias", "head_bias", Table(config.vocab_size, config.padded_vocab_size)),
        one(f"{head}{dense}.weight", "head_transform/dense/kernel", Matrix((width,), (width,))),
        one(f"{head}{dense}.bias", "head_transform/dense/bias", Flat((width,))),
        *layer_norm(f"{base}.embeddings.LayerNorm", "embedding/norm", width),
        *layer_norm(f"{head}{norm}", "head_transform/norm", width),
    ]
    ignored = [rf"{base}\.embeddings\.(position|token_type)_ids", rf"{base}\.pooler\..*", r"cls\.seq_relationship\..*"]
    ignored.append(r"(lm_head|cls\.predictions)\.decoder\.bias")
    if config.tied_embeddings:
        ignored.append(r"(lm_head|cls\.predictions)\.decoder\.weight")
    else:
        whole.append(one(f"{head}decoder.weight", "unembedding/table", table))
    layers = layer_rules(config, base + ".encoder.layer.{}.", lambda number: layer(config, number))
    return WeightMap(whole, layers, ignored)


def layer(config: parts.EncoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "bert.encoder.layer.N."."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    for name in ("query", "key", "value"):
        yield one(f"attention.self.{name}.weight", f"attention/{name}/kernel", Matrix((width,), heads))
        yield one(f"attention.self.{name}.bias", f"attention/{name}/bias", Flat(heads))
    yield one("attention.output.dense.weight", "attention/output/kernel", Matrix(heads, (width,)))
    yield one("attention.output.dense.bias", "attention/output/bias", Flat((width,)))
    yield one("intermediate.dense.weight", "mlp/up/kernel", Matrix((width,), (hidden,)))
    yield one("intermediate.dense.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("output.dense.weight", "mlp/down/kernel", Matrix((hidden,), (width,)))
    yield one("output.dense.bias", "mlp/down/bias", Flat((width,)))
    yield from layer_norm("attention.output.LayerNorm", "attention_post_norm", width)
    yield from layer_norm("output.LayerNorm", "mlp_post_norm", width)
