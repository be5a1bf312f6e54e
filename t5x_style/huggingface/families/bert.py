"""BERT, RoBERTa, XLM-RoBERTa, SpanBERT: post-norm encoders, learned positions (Devlin et al. 2019, Liu et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.huggingface import dropout, task_heads
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM", "xlm-roberta": "XLMRobertaForMaskedLM"}


def _classes(kind: str) -> tuple[str, Mapping[str, task_heads.Parts]]:
    """The family's name in class names, and its classes."""
    return MODEL_TYPES[kind].removesuffix("ForMaskedLM"), task_heads.BERT if kind == "bert" else task_heads.ROBERTA


def from_config(settings: Mapping[str, Any]) -> parts.EncoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: it is a decoder, or has other positions than learned absolute ones.
    """
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise UserError("config.json: is_decoder or add_cross_attention is true; only encoders are known")
    if settings.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"config.json: position_embedding_type is {settings['position_embedding_type']!r}; known is absolute"
        )
    heads, width, kind = settings["num_attention_heads"], settings["hidden_size"], settings["model_type"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_eps", 1e-12))
    shape = activation(settings.get("hidden_act", "gelu"))
    attention = parts.AttentionSpec(
        heads, heads, width // heads, causal=False, rope=None, qkv_bias=True, output_bias=True
    )
    layer = parts.LayerSpec(
        attention, parts.MlpSpec(settings["intermediate_size"], shape, gated=False, bias=True), norm, placement="post"
    )
    # RoBERTa counts positions from behind its padding id, and its head's activation is always gelu.
    roberta = kind != "bert"
    offset = settings.get("pad_token_id", 1) + 1 if roberta else 0
    positions = parts.PositionSpec("learned", settings["max_position_embeddings"], offset)
    above = task_heads.read(settings, *_classes(kind))
    head = parts.HeadSpec(bias=True, transform="gelu" if roberta else shape, transform_norm=norm)
    return parts.EncoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["num_hidden_layers"]),),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        head=head if above.head else None,
        embedding=parts.EmbeddingSpec(types=settings.get("type_vocab_size", 2), positions=positions, norm=norm),
        init=parts.InitSpec(settings.get("initializer_range"), depth_scaled=False),
        pooler=above.pooler,
        tasks=() if above.task is None else (above.task,),
    )


def to_config(config: parts.EncoderConfig, kind: str = "bert") -> dict[str, Any]:
    """Their config.json of our configuration; UserError where no class of theirs has its heads."""
    layer, positions = config.layers[0], config.embedding.positions
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert positions is not None
    start = {} if config.init.stddev is None else {"initializer_range": config.init.stddev}
    return {
        **task_heads.write(config, *_classes(kind)),
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": layer.attention.heads,
        "intermediate_size": layer.mlp.hidden,
        "hidden_act": their_activation(layer.mlp.activation),
        "layer_norm_eps": layer.norm.epsilon,
        "max_position_embeddings": positions.length,
        "type_vocab_size": config.embedding.types,
        "pad_token_id": 0 if kind == "bert" else positions.offset - 1,
        "tie_word_embeddings": config.tied_embeddings,
        **start,
    }


def complete(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The config.json with what only the names of the weights tell; see task_heads.complete."""
    kind = settings["model_type"]
    head = "cls.predictions." if kind == "bert" else "lm_head."
    return task_heads.complete(settings, names, *_classes(kind), (head, "cls.seq_relationship.", "pooler."))


def inputs(row: np.ndarray, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Positions of one row of ids; RoBERTa's leave out padding ids, wherever they are, and give them the row before 0.

    Example, padding id 1: [5, 6, 1, 7, 1] -> [0, 1, -1, 2, -1], the rows 2, 3, 1, 4, 1 of its table.
    """
    if settings["model_type"] == "bert":
        return {}
    counted = np.asarray(row) != settings.get("pad_token_id", 1)
    return {"positions": (np.cumsum(counted) * counted - 1).astype(np.int32)}


def weight_map(config: parts.EncoderConfig) -> WeightMap:
    """Their tensors; which of the families it is shows in the offset of the positions."""
    positions, width = config.embedding.positions, config.embed_dim
    assert positions is not None
    roberta = positions.offset > 0
    bare = config.head is None and not config.tasks
    base = "" if bare else "roberta." if roberta else "bert."
    table, rows = Table(config.vocab_size, config.padded_vocab_size, width), (positions.length, width)
    outside = [
        one(f"{base}embeddings.word_embeddings.weight", "embedding/table", table),
        one(f"{base}embeddings.position_embeddings.weight", "embedding/positions/table", Flat(rows, rows)),
        *layer_norm(f"{base}embeddings.LayerNorm", "embedding/norm", width),
    ]
    if config.embedding.types:
        types = (config.embedding.types, width)
        outside.append(
            one(f"{base}embeddings.token_type_embeddings.weight", "embedding/types/table", Flat(types, types))
        )
    ignored = [r".*embeddings\.(position|token_type)_ids"]
    if config.pooler:
        outside += task_heads.linear(f"{base}pooler.dense", "pooler", width, width)
    else:
        ignored += [r".*pooler\.dense\..*", r"cls\.seq_relationship\..*"]
    if config.head is not None:
        head, names = ("lm_head.", ("dense", "layer_norm")) if roberta else ("cls.predictions.", _TRANSFORM)
        outside += vocabulary_head(config, head, names)
        ignored += [head.replace(".", r"\.") + name for name in (r"bias", r"decoder\.(bias|weight)")]
    classifier = "classifier.out_proj" if roberta else "classifier"
    names_of = {"span": "qa_outputs", "next_sentence": "cls.seq_relationship", "classification": classifier}
    names_of |= {"multi_label": classifier, "regression": classifier, "": "classifier"}
    outside += task_heads.score_rules(config, names_of)
    layers = layer_rules(config, base + "encoder.layer.{}.", lambda number: layer(config, number))
    return WeightMap(outside, layers, ignored)


_TRANSFORM = ("transform.dense", "transform.LayerNorm")


def vocabulary_head(config: parts.EncoderConfig, head: str, names: tuple[str, str]) -> list[Rule]:
    """The masked-LM head's tensors; `names` of its dense layer and norm behind the prefix `head`.

    transformers ties the bias of the scores to one beside them together with the table; only a tied model has one.
    """
    columns = config.embed_dim if config.embedding.dim is None else config.embedding.dim
    dense, norm = names
    rules = task_heads.linear(f"{head}{dense}", "head_transform/dense", config.embed_dim, columns)
    rules += layer_norm(f"{head}{norm}", "head_transform/norm", columns)
    bias = "bias" if config.tied_embeddings else "decoder.bias"
    rules.append(one(f"{head}{bias}", "head_bias", Table(config.vocab_size, config.padded_vocab_size)))
    if not config.tied_embeddings:
        table = Table(config.vocab_size, config.padded_vocab_size, columns)
        rules.append(one(f"{head}decoder.weight", "unembedding/table", table))
    return rules


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
