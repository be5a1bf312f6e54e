"""Gemma 2 and Gemma 3 (text): sandwich norms around scales stored from 0, alternating windows, soft caps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout, rope_parameters
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.families import llama
from t5x_style.huggingface.layer_types import FULL, SLIDING, layer_types
from t5x_style.huggingface.weights.layouts import Flat
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: attention in both directions (embedding models), or another kind of layer.
    """
    if settings.get("use_bidirectional_attention"):
        raise UserError("config.json: use_bidirectional_attention is set; only Gemma's causal models are known")
    settings = defaults.filled(settings)
    third, layers = settings["model_type"] == "gemma3_text", settings["num_hidden_layers"]
    norm = parts.NormSpec("rmsnorm", settings.get("rms_norm_eps", 1e-6), scale_offset=1.0)
    ropes = _ropes(settings, third)

    def layer(kind: str) -> parts.LayerSpec:
        attention = parts.AttentionSpec(
            heads=settings["num_attention_heads"],
            kv_heads=settings["num_key_value_heads"],
            head_dim=settings["head_dim"],
            window=settings["sliding_window"] if kind == SLIDING else None,
            rope=ropes[kind],
            qkv_bias=settings.get("attention_bias", False),
            output_bias=settings.get("attention_bias", False),
            qk_norm=norm if third else None,
            logit_softcap=settings.get("attn_logit_softcapping"),
            scale=settings["query_pre_attn_scalar"] ** -0.5,
        )
        kind_of = settings.get("hidden_activation") or settings.get("hidden_act") or "gelu_pytorch_tanh"
        mlp = parts.MlpSpec(settings["intermediate_size"], activation(kind_of))
        return parts.LayerSpec(attention, mlp, norm, placement="sandwich")

    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=settings["hidden_size"],
        dropout=dropout.read(settings),
        segments=patterned([layer(kind) for kind in kinds(settings, layers)]),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        embedding_scale=math.sqrt(settings["hidden_size"]),
        head=parts.HeadSpec(softcap=settings.get("final_logit_softcapping")),
    )


def kinds(settings: Mapping[str, Any], layers: int) -> list[str]:
    """Which layers slide: as the file says, else every other one (Gemma 2), five of six (Gemma 3)."""
    if settings.get("layer_types"):
        return layer_types(settings)
    every = settings.get("sliding_window_pattern", 6) if settings["model_type"] == "gemma3_text" else 2
    return [FULL if (number + 1) % every == 0 else SLIDING for number in range(layers)]


def patterned(layers: list[parts.LayerSpec]) -> tuple[parts.LayerGroup, ...]:
    """The shortest pattern that repeats, and what is left. Example: L L G L L G L -> (L L G) x 2, (L) x 1."""
    for size in range(1, len(layers) + 1):
        repeats = len(layers) // size
        if layers[: size * repeats] == layers[:size] * repeats:
            rest = layers[size * repeats :]
            if repeats > 1 or size == len(layers):
                return (parts.LayerGroup(tuple(layers[:size]), repeats), *llama.segments(rest))
    return llama.segments(layers)


def _ropes(settings: Mapping[str, Any], third: bool) -> dict[str, parts.RopeSpec]:
    found = settings.get("rope_parameters") or {}
    length = settings.get("max_position_embeddings", 8192)
    if FULL in found or SLIDING in found:  # transformers 5: one mapping a kind of layer
        return {kind: rope_parameters.spec(found[kind], float(found[kind]["rope_theta"]), length) for kind in found}
    wide = rope_parameters.read(settings, base=1e6 if third else 1e4)
    return {FULL: wide, SLIDING: parts.RopeSpec(float(settings.get("rope_local_base_freq", 1e4))) if third else wide}


def to_config(config: parts.DecoderConfig, kind: str = "gemma3_text") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layers = config.layers
    spec, mlp = layers[0].attention, layers[0].mlp
    assert isinstance(mlp, parts.MlpSpec)
    assert config.head is not None
    types = [FULL if layer.attention.window is None else SLIDING for layer in layers]
    ropes = {name: layer.attention.rope for name, layer in zip(types, layers, strict=True)}
    third = kind == "gemma3_text"
    written = {name: rope_parameters.write(rope) for name, rope in ropes.items() if rope is not None}
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(layers),
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_activation": their_activation(mlp.activation),
        "rms_norm_eps": layers[0].norm.epsilon,
        "attention_bias": spec.qkv_bias,
        "query_pre_attn_scalar": _query_scalar(spec, kind),
        "sliding_window": next((layer.attention.window for layer in layers if layer.attention.window), 4096),
        "layer_types": types,
        "attn_logit_softcapping": spec.logit_softcap,
        "final_logit_softcapping": config.head.softcap,
        "tie_word_embeddings": config.tied_embeddings,
        "rope_parameters": written if third else written[types[-1]],
    }


def _query_scalar(spec: parts.AttentionSpec, kind: str) -> int:
    """The whole number whose inverse root multiplies the scores; transformers takes no other."""
    if spec.scale is None:
        return spec.head_dim
    scalar = round(spec.scale**-2)
    if not math.isclose(scalar**-0.5, spec.scale, rel_tol=1e-12):
        raise UserError(f"{kind} scales scores by a whole number ** -0.5, this model by {spec.scale}")
    return scalar


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """LLaMA's tensors, with four norms a layer."""
    plain = llama.weight_map(config)
    return WeightMap(
        plain.outside, layer_rules(config, "model.layers.{}.", lambda number: layer(config, number)), plain.ignored
    )


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "model.layers.N."."""
    size = Flat((config.embed_dim,))
    for rule in llama.layer(config, number):
        if rule.theirs != "post_attention_layernorm.weight":
            yield rule
    yield one("post_attention_layernorm.weight", "attention_post_norm/scale", size)
    yield one("pre_feedforward_layernorm.weight", "mlp_norm/scale", size)
    yield one("post_feedforward_layernorm.weight", "mlp_post_norm/scale", size)
