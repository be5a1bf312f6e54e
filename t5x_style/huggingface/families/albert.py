"""ALBERT: BERT with a narrow embedding and layers that share their weights (Lan et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import dropout, task_heads
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.families.bert import vocabulary_head
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"albert": "AlbertForMaskedLM"}
_CLASSES = ("Albert", task_heads.ALBERT)


def from_config(settings: Mapping[str, Any]) -> parts.EncoderConfig:
    """Our configuration of their config.json."""
    heads, width = settings["num_attention_heads"], settings["hidden_size"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_eps", 1e-12))
    kind = activation(settings.get("hidden_act", "gelu_new"))
    attention = parts.AttentionSpec(
        heads, heads, width // heads, causal=False, rope=None, qkv_bias=True, output_bias=True
    )
    mlp = parts.MlpSpec(settings["intermediate_size"], kind, gated=False, bias=True)
    pattern = (parts.LayerSpec(attention, mlp, norm, placement="post"),) * settings.get("inner_group_num", 1)
    repeats = groups(settings["num_hidden_layers"], settings.get("num_hidden_groups", 1))
    above = task_heads.read(settings, *_CLASSES)
    return parts.EncoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=tuple(parts.LayerGroup(pattern, count, shared=True) for count in repeats),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        head=parts.HeadSpec(bias=True, transform=kind, transform_norm=norm) if above.head else None,
        embedding=parts.EmbeddingSpec(
            dim=settings["embedding_size"],
            types=settings.get("type_vocab_size", 2),
            positions=parts.PositionSpec("learned", settings["max_position_embeddings"]),
            norm=norm,
        ),
        init=parts.InitSpec(settings.get("initializer_range"), depth_scaled=False),
        pooler=above.pooler,
        tasks=() if above.task is None else (above.task,),
    )


def groups(layers: int, count: int) -> list[int]:
    """How often each group of shared weights runs; layer i is in group int(i / (layers / count)).

    Example: groups(7, 3) -> [3, 2, 2].

    Raises:
      UserError: more groups than layers.
    """
    if not 1 <= count <= layers:
        raise UserError(f"config.json: num_hidden_groups is {count}; give 1 to num_hidden_layers, {layers}")
    of_layer = [int(number / (layers / count)) for number in range(layers)]
    return [of_layer.count(group) for group in range(count)]


def to_config(config: parts.EncoderConfig, kind: str = "albert") -> dict[str, Any]:
    """Their config.json of our configuration; UserError where no class of theirs has its heads."""
    layer, embedding = config.layers[0], config.embedding
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert embedding.positions is not None
    start = {} if config.init.stddev is None else {"initializer_range": config.init.stddev}
    return {
        **task_heads.write(config, *_CLASSES),
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "embedding_size": config.embed_dim if embedding.dim is None else embedding.dim,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": sum(group.repeats for group in config.segments),
        "num_hidden_groups": len(config.segments),
        "inner_group_num": len(config.segments[0].pattern),
        "num_attention_heads": layer.attention.heads,
        "intermediate_size": layer.mlp.hidden,
        "hidden_act": their_activation(layer.mlp.activation),
        "layer_norm_eps": layer.norm.epsilon,
        "max_position_embeddings": embedding.positions.length,
        "type_vocab_size": embedding.types,
        "tie_word_embeddings": config.tied_embeddings,
        **start,
    }


def complete(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The config.json with what only the names of the weights tell; see task_heads.complete."""
    return task_heads.complete(settings, names, *_CLASSES, ("predictions.", "sop_classifier.", "pooler."))


def weight_map(config: parts.EncoderConfig) -> WeightMap:
    """Their tensors."""
    embedding, width = config.embedding, config.embed_dim
    assert embedding.positions is not None
    narrow = width if embedding.dim is None else embedding.dim
    base = "" if config.head is None and not config.tasks else "albert."
    rows, types = (embedding.positions.length, narrow), (embedding.types, narrow)
    table = Table(config.vocab_size, config.padded_vocab_size, narrow)
    outside = [
        one(f"{base}embeddings.word_embeddings.weight", "embedding/table", table),
        one(f"{base}embeddings.position_embeddings.weight", "embedding/positions/table", Flat(rows, rows)),
        one(f"{base}embeddings.token_type_embeddings.weight", "embedding/types/table", Flat(types, types)),
        *layer_norm(f"{base}embeddings.LayerNorm", "embedding/norm", narrow),
        *task_heads.linear(f"{base}encoder.embedding_hidden_mapping_in", "embedding/projection", narrow, width),
    ]
    ignored = [r".*embeddings\.(position|token_type)_ids"]
    if config.pooler:
        outside += task_heads.linear(f"{base}pooler", "pooler", width, width)
    else:
        ignored += [r".*pooler\.(weight|bias)", r"sop_classifier\..*"]
    if config.head is not None:
        outside += vocabulary_head(config, "predictions.", ("dense", "LayerNorm"))
        ignored += [r"predictions\.bias", r"predictions\.decoder\.(bias|weight)"]
    names = {"span": "qa_outputs", "sentence_order": "sop_classifier.classifier", "": "classifier"}
    outside += task_heads.score_rules(config, names)
    inner = len(config.segments[0].pattern)
    layers = layer_rules(
        config, f"{base}encoder.albert_layer_groups.", lambda number: layer(config, number // inner, number % inner)
    )
    return WeightMap(outside, layers, ignored)


def layer(config: parts.EncoderConfig, group: int, inner: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "albert.encoder.albert_layer_groups."."""
    spec, width = config.segments[group].pattern[inner], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, prefix = (spec.attention.heads, spec.attention.head_dim), f"{group}.albert_layers.{inner}"
    for name in ("query", "key", "value"):
        yield one(f"{prefix}.attention.{name}.weight", f"attention/{name}/kernel", Matrix((width,), heads))
        yield one(f"{prefix}.attention.{name}.bias", f"attention/{name}/bias", Flat(heads))
    yield one(f"{prefix}.attention.dense.weight", "attention/output/kernel", Matrix(heads, (width,)))
    yield one(f"{prefix}.attention.dense.bias", "attention/output/bias", Flat((width,)))
    yield from task_heads.linear(f"{prefix}.ffn", "mlp/up", width, spec.mlp.hidden)
    yield from task_heads.linear(f"{prefix}.ffn_output", "mlp/down", spec.mlp.hidden, width)
    yield from layer_norm(f"{prefix}.attention.LayerNorm", "attention_post_norm", width)
    yield from layer_norm(f"{prefix}.full_layer_layer_norm", "mlp_post_norm", width)
