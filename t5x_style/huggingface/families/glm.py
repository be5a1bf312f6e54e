"""GLM-4 as transformers has it: GLM-4-9B ("glm") and GLM-4-0414 ("glm4", with norms on both sides of a block).

Gated pre-norm RMSNorm decoders like LLaMA, with grouped queries, biases on queries, keys and values only, interleaved
rotary positions on the first half of a head, and gate and up in one tensor. The files as their authors publish them
are in chatglm.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.huggingface import defaults, dropout, rope_parameters
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.families import llama
from t5x_style.huggingface.weights.layouts import Flat, Matrix
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"glm": "GlmForCausalLM", "glm4": "Glm4ForCausalLM"}
_TURNING = 0.5  # part of a head that turns where the file does not say, as in transformers


def accepts(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json of model_type "glm" is GLM-4's, not that of the first GLM (glm_infilling.py)."""
    return "max_sequence_length" not in settings


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json."""
    settings = defaults.filled(settings)
    heads, width = settings["num_attention_heads"], settings["hidden_size"]
    head_dim = settings.get("head_dim") or width // heads
    norm = parts.NormSpec("rmsnorm", settings.get("rms_norm_eps", 1.5625e-7))
    attention = parts.AttentionSpec(
        heads=heads,
        kv_heads=settings.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        rope=_rope(settings, head_dim),
        qkv_bias=settings.get("attention_bias", True),
    )
    mlp = parts.MlpSpec(settings["intermediate_size"], activation(settings.get("hidden_act", "silu")))
    layer = parts.LayerSpec(attention, mlp, norm, "sandwich" if settings["model_type"] == "glm4" else "pre")
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layer,), settings["num_hidden_layers"]),),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", False),
    )


def _rope(settings: Mapping[str, Any], head_dim: int) -> parts.RopeSpec:
    found = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    turning = found.get("partial_rotary_factor", settings.get("partial_rotary_factor", _TURNING))
    dim = int(head_dim * turning)
    read = rope_parameters.read(settings, dim=None if dim == head_dim else dim)
    return dataclasses.replace(read, interleaved=True)


def to_config(config: parts.DecoderConfig, kind: str = "glm") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer = config.layers[0]
    spec, mlp, rope = layer.attention, layer.mlp, layer.attention.rope
    assert isinstance(mlp, parts.MlpSpec)
    assert rope is not None
    turning = 1.0 if rope.dim is None else rope.dim / spec.head_dim
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": their_activation(mlp.activation),
        "attention_bias": spec.qkv_bias,
        "rms_norm_eps": layer.norm.epsilon,
        "partial_rotary_factor": turning,
        "rope_theta": rope.base,
        **rope_parameters.length(rope),
        "rope_parameters": {**rope_parameters.write(rope), "partial_rotary_factor": turning},
        "tie_word_embeddings": config.tied_embeddings,
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """LLaMA's tensors, with gate and up as one."""
    plain = llama.weight_map(config)
    layers = layer_rules(config, "model.layers.{}.", lambda number: layer(config, number))
    return WeightMap(plain.outside, layers, plain.ignored)


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "model.layers.N."."""
    spec, size = config.layers[number], Flat((config.embed_dim,))
    assert isinstance(spec.mlp, parts.MlpSpec)
    replaced = ("mlp.gate_proj.weight", "mlp.up_proj.weight")
    yield from (rule for rule in llama.layer(config, number) if rule.theirs not in replaced)
    inward = Matrix((config.embed_dim,), (spec.mlp.hidden,))
    yield fused("mlp.gate_up_proj.weight", {"mlp/gate/kernel": inward, "mlp/up/kernel": inward})
    if spec.placement == "sandwich":
        yield one("post_self_attn_layernorm.weight", "attention_post_norm/scale", size)
        yield one("post_mlp_layernorm.weight", "mlp_post_norm/scale", size)
