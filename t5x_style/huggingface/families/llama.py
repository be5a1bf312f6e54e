"""LLaMA, Mistral, Mixtral, Qwen2 and Qwen3: gated pre-norm RMSNorm decoders with rotary positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.huggingface import defaults, dropout, rope_parameters, task_heads
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.layer_types import FULL, SLIDING, layer_types
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, experts, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json."""
    settings = defaults.filled(settings)
    kind, heads, layers = settings["model_type"], settings["num_attention_heads"], settings["num_hidden_layers"]
    norm = parts.NormSpec("rmsnorm", settings.get("rms_norm_eps", 1e-6))
    head_dim = settings.get("head_dim") or settings["hidden_size"] // heads

    def layer(window: int | None) -> parts.LayerSpec:
        bias = settings.get("attention_bias", False)
        attention = parts.AttentionSpec(
            heads=heads,
            kv_heads=settings.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            window=window,
            rope=rope_parameters.read(settings),
            qkv_bias=kind == "qwen2" or bias,
            output_bias=kind != "qwen2" and bias,
            qk_norm=norm if kind == "qwen3" else None,
        )
        mlp = parts.MlpSpec(
            settings["intermediate_size"], activation(settings["hidden_act"]), bias=settings.get("mlp_bias", False)
        )
        return parts.LayerSpec(attention, _experts(settings, mlp) if kind == "mixtral" else mlp, norm)

    above = task_heads.read(settings, MODEL_TYPES[kind].removesuffix("ForCausalLM"), task_heads.DECODER)
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=settings["hidden_size"],
        dropout=dropout.read(settings),
        segments=segments([layer(window) for window in windows(settings, layers)]),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", False),
        head=parts.HeadSpec() if above.head else None,
        tasks=() if above.task is None else (above.task,),
    )


def _experts(settings: Mapping[str, Any], mlp: parts.MlpSpec) -> parts.MoeSpec:
    return parts.MoeSpec(
        experts=settings["num_local_experts"],
        top_k=settings["num_experts_per_tok"],
        mlp=mlp,
        balance_weight=settings.get("router_aux_loss_coef", 0.001),
    )


def windows(settings: Mapping[str, Any], layers: int) -> list[int | None]:
    """The window of every layer; their sliding_window counts the query itself, as ours does; LLaMA itself has none."""
    width = settings.get("sliding_window")
    if width is None or settings["model_type"] == "llama" or settings.get("use_sliding_window") is False:
        return [None] * layers
    if settings["model_type"].startswith("qwen"):
        if settings.get("layer_types"):
            return [width if kind == SLIDING else None for kind in layer_types(settings)]
        first = settings.get("max_window_layers", 28)
        return [width if number >= first else None for number in range(layers)]
    return [width] * layers


def segments(layers: list[parts.LayerSpec]) -> tuple[parts.LayerGroup, ...]:
    """Equal neighbours as one layer group. Example: A A B -> (A) x 2, (B) x 1."""
    found: list[parts.LayerGroup] = []
    for layer in layers:
        if found and found[-1].pattern == (layer,):
            found[-1] = parts.LayerGroup((layer,), found[-1].repeats + 1)
        else:
            found.append(parts.LayerGroup((layer,), 1))
    return tuple(found)


def to_config(config: parts.DecoderConfig, kind: str = "llama") -> dict[str, Any]:
    """Their config.json of our configuration; `from_config` gives an equal one where the family fits."""
    layer = config.layers[0]
    spec, moe = layer.attention, layer.mlp
    mlp = moe.mlp if isinstance(moe, parts.MoeSpec) else moe
    sliding = [layer.attention.window for layer in config.layers]
    width = next((window for window in sliding if window is not None), None)
    settings: dict[str, Any] = {
        **task_heads.write(config, MODEL_TYPES[kind].removesuffix("ForCausalLM"), task_heads.DECODER),
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
        "rms_norm_eps": layer.norm.epsilon,
        "tie_word_embeddings": config.tied_embeddings,
        "sliding_window": width,
    }
    if spec.rope is not None:
        settings["rope_parameters"] = rope_parameters.write(spec.rope)
        settings |= {"rope_theta": spec.rope.base, **rope_parameters.length(spec.rope)}
    if isinstance(moe, parts.MoeSpec):
        settings |= {"num_local_experts": moe.experts, "num_experts_per_tok": moe.top_k}
        settings["router_aux_loss_coef"] = moe.balance_weight
    if kind in ("llama", "qwen3"):
        settings["attention_bias"] = spec.output_bias
    if kind == "llama":
        settings["mlp_bias"] = mlp.bias
    if kind.startswith("qwen"):
        settings["use_sliding_window"] = width is not None
        settings["layer_types"] = [FULL if window is None else SLIDING for window in sliding]
    return settings


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors; see `layer` for those of a layer. A model without any head has names without "model."."""
    base = "" if config.head is None and not config.tasks else "model."
    table = Table(config.vocab_size, config.padded_vocab_size, config.embed_dim)
    outside = [
        one(f"{base}embed_tokens.weight", "embedding/table", table),
        one(f"{base}norm.weight", "final_norm/scale", Flat((config.embed_dim,))),
        *task_heads.score_rules(config, {"": "score"}),
    ]
    own = config.head is not None and not config.tied_embeddings
    if own:
        outside.append(one("lm_head.weight", "unembedding/table", table))
    found = layer_rules(config, base + "layers.{}.", lambda number: layer(config, number))
    return WeightMap(outside, found, [r".*rotary_emb\.inv_freq"] + ([] if own else [r"lm_head\.weight"]))


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "model.layers.N."."""
    spec, mlp, width = config.layers[number].attention, config.layers[number].mlp, config.embed_dim
    heads, groups = (spec.heads, spec.head_dim), (spec.kv_heads, spec.head_dim)
    yield one("input_layernorm.weight", "attention_norm/scale", Flat((width,)))
    yield one("post_attention_layernorm.weight", "mlp_norm/scale", Flat((width,)))
    for theirs, ours, outputs in (("q", "query", heads), ("k", "key", groups), ("v", "value", groups)):
        yield one(f"self_attn.{theirs}_proj.weight", f"attention/{ours}/kernel", Matrix((width,), outputs))
        if spec.qkv_bias:
            yield one(f"self_attn.{theirs}_proj.bias", f"attention/{ours}/bias", Flat(outputs))
    yield one("self_attn.o_proj.weight", "attention/output/kernel", Matrix(heads, (width,)))
    if spec.output_bias:
        yield one("self_attn.o_proj.bias", "attention/output/bias", Flat((width,)))
    if spec.qk_norm is not None:
        yield one("self_attn.q_norm.weight", "attention/query_norm/scale", Flat((spec.head_dim,)))
        yield one("self_attn.k_norm.weight", "attention/key_norm/scale", Flat((spec.head_dim,)))
    if isinstance(mlp, parts.MoeSpec):
        yield one("block_sparse_moe.gate.weight", "mlp/router/kernel", Matrix((width,), (mlp.experts,)))
        inward, outward = Matrix((width,), (mlp.mlp.hidden,)), Matrix((mlp.mlp.hidden,), (width,))
        for theirs, ours, layout in (("w1", "gate", inward), ("w3", "up", inward), ("w2", "down", outward)):
            name = f"block_sparse_moe.experts.{{}}.{theirs}.weight"
            yield from experts(name, f"mlp/{ours}/kernel", layout, mlp.experts)
        return
    for name in ("gate", "up"):
        yield one(f"mlp.{name}_proj.weight", f"mlp/{name}/kernel", Matrix((width,), (mlp.hidden,)))
        if mlp.bias:
            yield one(f"mlp.{name}_proj.bias", f"mlp/{name}/bias", Flat((mlp.hidden,)))
    yield one("mlp.down_proj.weight", "mlp/down/kernel", Matrix((mlp.hidden,), (width,)))
    if mlp.bias:
        yield one("mlp.down_proj.bias", "mlp/down/bias", Flat((width,)))
