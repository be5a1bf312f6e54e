"""Baichuan 1 and 2: LLaMA's layers with fused queries, keys and values.

The 7B models have rotary positions, the 13B models ALiBi; Baichuan 2 (Yang et al. 2023, section 2.5) normalises the
rows of its head. All have model_type "baichuan" and code of their own beside config.json, which tells them apart so:
only the 7B files have `max_position_embeddings`, only Baichuan 2 has `z_loss_weight` (and 125,696 ids).
The head's rows are kept as the file has them, so that export gives them back to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.huggingface import rope_parameters
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.families import llama
from t5x_style.huggingface.weights.layouts import Matrix
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_rules
from t5x_style.models import specs as parts

MODEL_TYPES = {"baichuan": "BaichuanForCausalLM"}
_BAICHUAN2_VOCABULARY = 125696
_LENGTH = 4096  # of all published models


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json."""
    heads, width = settings["num_attention_heads"], settings["hidden_size"]
    norm = parts.NormSpec("rmsnorm", settings.get("rms_norm_eps", 1e-6))
    rotary = "max_position_embeddings" in settings
    attention = parts.AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        rope=rope_parameters.read(settings) if rotary else None,
        alibi=not rotary,
    )
    mlp = parts.MlpSpec(settings["intermediate_size"], activation(settings.get("hidden_act", "silu")))
    second = "z_loss_weight" in settings or settings["vocab_size"] == _BAICHUAN2_VOCABULARY
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        segments=(parts.LayerGroup((parts.LayerSpec(attention, mlp, norm),), settings["num_hidden_layers"]),),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", False),
        head=parts.HeadSpec(normalized=second),
    )


def to_config(config: parts.DecoderConfig, kind: str = "baichuan") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer = config.layers[0]
    spec, mlp = layer.attention, layer.mlp
    assert isinstance(mlp, parts.MlpSpec)
    second = config.head is not None and config.head.normalized
    settings: dict[str, Any] = {
        # The remote code of Baichuan-7B spells its class with a capital C.
        "architectures": ["BaiChuanForCausalLM" if spec.rope and not second else MODEL_TYPES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.embed_dim,
        "intermediate_size": mlp.hidden,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": spec.heads,
        "hidden_act": their_activation(mlp.activation),
        "rms_norm_eps": layer.norm.epsilon,
        "model_max_length": _LENGTH,
        "tie_word_embeddings": config.tied_embeddings,
    }
    if spec.rope is not None:
        settings |= {"max_position_embeddings": _LENGTH, "rope_theta": spec.rope.base}
        if spec.rope.scaling is not None:
            settings["rope_scaling"] = rope_parameters.write(spec.rope)
    return settings | ({"z_loss_weight": 0} if second else {})


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """LLaMA's tensors, with queries, keys and values as one."""
    plain = llama.weight_map(config)
    layers = layer_rules(config, "model.layers.{}.", lambda number: layer(config, number))
    return WeightMap(plain.outside, layers, plain.ignored)


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "model.layers.N."."""
    spec = config.layers[number].attention
    replaced = tuple(f"self_attn.{name}_proj.weight" for name in "qkv")
    yield from (rule for rule in llama.layer(config, number) if rule.theirs not in replaced)
    inward = Matrix((config.embed_dim,), (spec.heads, spec.head_dim))
    names = ("query", "key", "value")
    yield fused("self_attn.W_pack.weight", {f"attention/{name}/kernel": inward for name in names})
