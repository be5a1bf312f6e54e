"""XLNet (Yang et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import config as parts
from t5x_style.models.xlnet_config import XLNetConfig

MODEL_TYPES = {"xlnet": "XLNetLMHeadModel"}

# Their config.json has no such key: positions that see nothing attend to everything there (XLNetConfig.blind).
_BLIND = "blind_queries"


def from_config(settings: Mapping[str, Any]) -> XLNetConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: an attention type or an activation that is not known.
    """
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
    return XLNetConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        segments=(parts.Segment((layer,), settings["n_layer"]),),
        final_norm=None,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        head=parts.HeadSpec(bias=True),
        memory_length=settings.get("mem_len") or None,
        reuse_length=settings.get("reuse_len") or None,
        bidirectional_data=settings.get("bi_data", False),
        clamp_length=clamp if clamp > 0 else None,
        same_length=settings.get("same_length", False) and direction == "uni",
        blind=settings.get(_BLIND, "mean"),
    )


def to_config(config: XLNetConfig, kind: str = "xlnet") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer = config.layers[0]
    assert isinstance(layer.mlp, parts.MlpSpec)
    settings = {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
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
    return settings if config.blind == "mean" else {**settings, _BLIND: config.blind}


def weight_map(config: XLNetConfig) -> WeightMap:
    """Their tensors."""
    width = config.embed_dim
    table = Table(config.vocab_size, config.padded_vocab_size, width)
    whole = [
        one("transformer.word_embedding.weight", "embedding/table", table),
        one("transformer.mask_emb", "mask_embedding", Flat((width,), (1, 1, width))),
        one("lm_loss.bias", "head_bias", Table(config.vocab_size, config.padded_vocab_size)),
    ]
    # heads that their other models keep beside the trunk
    ignored = [r"(sequence_summary|logits_proj|qa_outputs|classifier|start_logits|end_logits|answer_class)\..*"]
    if config.tied_embeddings:
        ignored.append(r"lm_loss\.weight")
    else:
        whole.append(one("lm_loss.weight", "unembedding/table", table))
    layers = layer_rules(config, "transformer.layer.{}.", lambda number: layer(config, number))
    return WeightMap(whole, layers, ignored)


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
