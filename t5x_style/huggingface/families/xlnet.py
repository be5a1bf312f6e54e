"""XLNet (Yang et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout, task_heads
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import specs as parts
from t5x_style.models.specs.xlnet_config import XLNetConfig

MODEL_TYPES = {"xlnet": "XLNetLMHeadModel"}
_CLASSES = ("XLNet", task_heads.XLNET)

# Their config.json has no such key: positions that see nothing attend to everything there (XLNetConfig.blind).
_BLIND = "blind_queries"


def from_config(settings: Mapping[str, Any]) -> XLNetConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: an attention type, an activation, a class or a summary that is not known.
    """
    settings = defaults.filled(settings)
    heads, width = settings["n_head"], settings["d_model"]
    direction = settings.get("attn_type", "bi")
    if direction not in ("bi", "uni"):
        raise UserError(f"config.json: attn_type is {direction!r}; known are bi and uni")
    clamp = settings.get("clamp_len", -1)
    kind = activation(settings.get("ff_activation", "gelu"))
    layer = parts.LayerSpec(
        parts.AttentionSpec(heads, heads, settings.get("d_head") or width // heads, direction == "uni", rope=None),
        parts.MlpSpec(settings["d_inner"], kind, gated=False, bias=True),
        parts.NormSpec("layernorm", settings.get("layer_norm_eps", 1e-12)),
        placement="post",
    )
    above = task_heads.read(settings, *_CLASSES)
    if above.task is not None and above.task.transform is not None:
        _check_summary(settings)
    return XLNetConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["n_layer"]),),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        head=parts.HeadSpec(bias=True) if above.head else None,
        tasks=() if above.task is None else (above.task,),
        init=parts.InitSpec(settings.get("initializer_range"), depth_scaled=False),
        memory_length=settings.get("mem_len") or None,
        reuse_length=settings.get("reuse_len") or None,
        bidirectional_data=settings.get("bi_data", False),
        clamp_length=clamp if clamp > 0 else None,
        same_length=settings.get("same_length", False) and direction == "uni",
        blind=settings.get(_BLIND, "mean"),
    )


def _check_summary(settings: Mapping[str, Any]) -> None:
    """Refuses heads whose vector of a sequence is not tanh(dense(last token)), the default."""
    for name, known in (("summary_type", "last"), ("summary_use_proj", True), ("summary_activation", "tanh")):
        found = settings.get(name, known)
        if found != known:
            raise UserError(f"config.json: {name} is {found!r}; XLNet heads are read with {known!r} only")


def to_config(config: XLNetConfig, kind: str = "xlnet") -> dict[str, Any]:
    """Their config.json of our configuration; UserError where no class of theirs has its heads."""
    layer = config.layers[0]
    assert isinstance(layer.mlp, parts.MlpSpec)
    settings = {
        **task_heads.write(config, *_CLASSES),
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "d_model": config.embed_dim,
        "n_layer": len(config.layers),
        "n_head": layer.attention.heads,
        "d_head": layer.attention.head_dim,
        "d_inner": layer.mlp.hidden,
        "ff_activation": their_activation(layer.mlp.activation),
        "layer_norm_eps": layer.norm.epsilon,
        "attn_type": "uni" if config.causal else "bi",
        "mem_len": config.memory_length,
        "reuse_len": config.reuse_length,
        "bi_data": config.bidirectional_data,
        "clamp_len": -1 if config.clamp_length is None else config.clamp_length,
        "same_length": config.same_length,
        "tie_word_embeddings": config.tied_embeddings,
    }
    if config.init.stddev is not None:
        settings["initializer_range"] = config.init.stddev
    if config.blind != "mean":
        settings[_BLIND] = config.blind
    return settings


def weight_map(config: XLNetConfig) -> WeightMap:
    """Their tensors."""
    width = config.embed_dim
    base = "" if config.head is None and not config.tasks else "transformer."
    table = Table(config.vocab_size, config.padded_vocab_size, width)
    outside = [
        one(f"{base}word_embedding.weight", "embedding/table", table),
        one(f"{base}mask_emb", "mask_embedding", Flat((width,), (1, 1, width))),
    ]
    ignored = []
    if config.head is not None:
        outside.append(one("lm_loss.bias", "head_bias", Table(config.vocab_size, config.padded_vocab_size)))
        if config.tied_embeddings:
            ignored.append(r"lm_loss\.weight")
        else:
            outside.append(one("lm_loss.weight", "unembedding/table", table))
    scores = {"span": "qa_outputs", "tags": "classifier", "": "logits_proj"}
    outside += task_heads.score_rules(config, scores, "sequence_summary.summary")
    layers = layer_rules(config, base + "layer.{}.", lambda number: layer(config, number))
    return WeightMap(outside, layers, ignored)


@dataclass(frozen=True)
class OutputProjection:
    """Theirs [embed, heads, head_dim], which they apply transposed; ours [heads, head_dim, embed]."""

    embed: int
    heads: tuple[int, int]

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        return (self.embed, *self.heads)

    @property
    def ours(self) -> tuple[int, ...]:
        """Our shape."""
        return (*self.heads, self.embed)

    def read(self, value: np.ndarray) -> np.ndarray:
        """Moves the embedding last."""
        return np.moveaxis(value, 0, -1)

    def write(self, value: np.ndarray) -> np.ndarray:
        """Moves it first."""
        return np.moveaxis(value, -1, 0)


def layer(config: XLNetConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "transformer.layer.N."."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    inward = (width, *heads)
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value"), ("r", "position")):
        yield one(f"rel_attn.{theirs}", f"attention/{ours}/kernel", Flat(inward, inward))
    yield one("rel_attn.o", "attention/output/kernel", OutputProjection(width, heads))
    for theirs, ours in (("r_w_bias", "content_bias"), ("r_r_bias", "position_bias"), ("r_s_bias", "segment_bias")):
        yield one(f"rel_attn.{theirs}", f"attention/{ours}", Flat(heads, heads))
    kinds = (2, *heads)
    yield one("rel_attn.seg_embed", "attention/segment_embedding", Flat(kinds, kinds))
    yield one("ff.layer_1.weight", "mlp/up/kernel", Matrix((width,), (hidden,)))
    yield one("ff.layer_1.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("ff.layer_2.weight", "mlp/down/kernel", Matrix((hidden,), (width,)))
    yield one("ff.layer_2.bias", "mlp/down/bias", Flat((width,)))
    yield from layer_norm("rel_attn.layer_norm", "attention_post_norm", width)
    yield from layer_norm("ff.layer_norm", "mlp_post_norm", width)
