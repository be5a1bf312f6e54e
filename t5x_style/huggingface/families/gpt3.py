"""GPT-Neo and GPT-3: GPT-2's layers, dense and locally banded ones by turns (Brown et al. 2020, section 2.1).

transformers has GPT-Neo, which has no biases on queries, keys and values and does not scale scores. It has no GPT-3
with bands; such a model is written with model_type "gpt3": GPT-2's config.json and tensors, with GPT-Neo's
`attention_layers` and `window_size` beside them. t5x_style reads it, transformers does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.families import gpt2
from t5x_style.huggingface.families.gemma import patterned
from t5x_style.huggingface.weights.layouts import Flat, Matrix
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"gpt_neo": "GPTNeoForCausalLM", "gpt3": "GPT3LMHeadModel"}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of GPT-Neo's config.json, or of GPT-3's."""
    settings = defaults.filled(settings)
    neo = settings["model_type"] == "gpt_neo"
    width, heads = settings["hidden_size" if neo else "n_embd"], settings["num_heads" if neo else "n_head"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_epsilon", 1e-5))
    head_dim = settings.get("head_dim") or width // heads
    hidden = settings.get("intermediate_size" if neo else "n_inner") or 4 * width
    mlp = parts.MlpSpec(hidden, activation(settings.get("activation_function", "gelu_new")), gated=False, bias=True)

    def layer(kind: str) -> parts.LayerSpec:
        attention = parts.AttentionSpec(
            heads=heads,
            kv_heads=heads,
            head_dim=head_dim,
            window=settings["window_size"] if kind == "local" else None,
            rope=None,
            qkv_bias=not neo,
            output_bias=True,
            scale=1.0 if neo else head_dim**-0.5,
        )
        return parts.LayerSpec(attention, mlp, norm)

    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=patterned([layer(kind) for kind in attention_layers(settings)]),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        embedding=parts.EmbeddingSpec(
            positions=parts.PositionSpec("learned", settings["max_position_embeddings" if neo else "n_positions"])
        ),
    )


def attention_layers(settings: Mapping[str, Any]) -> list[str]:
    """ "global" or "local" for every layer. Example: attention_types [[["global", "local"], 2]] -> g, l, g, l."""
    if settings.get("attention_layers"):
        kinds = list(settings["attention_layers"])
    else:
        types = settings.get("attention_types") or [[["global", "local"], 12]]
        kinds = [kind for pattern, repeats in types for kind in list(pattern) * repeats]
    wanted = settings["num_layers" if settings["model_type"] == "gpt_neo" else "n_layer"]
    if len(kinds) != wanted:
        raise UserError(f"config.json: attention_layers names {len(kinds)} layers, the model has {wanted}")
    unknown = sorted(set(kinds) - {"global", "local"})
    if unknown:
        raise UserError(f"config.json: attention {unknown[0]!r} is not known; known are global, local")
    return kinds


def to_config(config: parts.DecoderConfig, kind: str = "gpt_neo") -> dict[str, Any]:
    """GPT-Neo's config.json of our configuration, or GPT-3's; UserError where GPT-Neo has no word for it."""
    layer, positions = config.layers[0], config.embedding.positions
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert positions is not None
    spec = layer.attention
    windows = [layer.attention.window for layer in config.layers]
    width = next((window for window in windows if window is not None), 256)
    if any(window not in (None, width) for window in windows):
        raise UserError(f"{kind} has one window for all banded layers, this model several; it cannot be written")
    shared: dict[str, Any] = {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(
            layer.mlp.activation, their_activation(layer.mlp.activation)
        ),
        "layer_norm_epsilon": layer.norm.epsilon,
        "tie_word_embeddings": config.tied_embeddings,
        "attention_layers": ["global" if window is None else "local" for window in windows],
        "window_size": width,
    }
    if kind == "gpt3":
        own = {"n_embd": config.embed_dim, "n_layer": len(windows), "n_head": spec.heads, "head_dim": spec.head_dim}
        return shared | own | {"n_inner": layer.mlp.hidden, "n_positions": positions.length}
    if spec.qkv_bias or any(layer.attention.scale != 1.0 for layer in config.layers):
        raise UserError("gpt_neo has no biases on queries, keys and values and no scaled scores; write it as gpt3")
    if spec.heads * spec.head_dim != config.embed_dim:
        raise UserError(f"gpt_neo has heads of {config.embed_dim} / {spec.heads}, this model of {spec.head_dim}")
    return shared | {
        "hidden_size": config.embed_dim,
        "intermediate_size": layer.mlp.hidden,
        "num_layers": len(windows),
        "num_heads": spec.heads,
        "max_position_embeddings": positions.length,
        "attention_types": [[[kind], 1] for kind in shared["attention_layers"]],
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """GPT-2's tensors for GPT-3; GPT-Neo's, which is told by its missing biases."""
    plain = gpt2.weight_map(config)
    if config.layers[0].attention.qkv_bias:
        return plain
    layers = layer_rules(config, "transformer.h.{}.", lambda number: layer(config, number))
    return WeightMap(plain.outside, layers, [*plain.ignored, r".*\.attn\.attention\.(bias|masked_bias)"])


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer of GPT-Neo, names behind "transformer.h.N."."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    for theirs, ours in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
        yield from layer_norm(theirs, ours, width)
    for theirs, ours in (("q", "query"), ("k", "key"), ("v", "value")):
        yield one(f"attn.attention.{theirs}_proj.weight", f"attention/{ours}/kernel", Matrix((width,), heads))
    yield one("attn.attention.out_proj.weight", "attention/output/kernel", Matrix(heads, (width,)))
    yield one("attn.attention.out_proj.bias", "attention/output/bias", Flat((width,)))
    yield one("mlp.c_fc.weight", "mlp/up/kernel", Matrix((width,), (hidden,)))
    yield one("mlp.c_fc.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("mlp.c_proj.weight", "mlp/down/kernel", Matrix((hidden,), (width,)))
    yield one("mlp.c_proj.bias", "mlp/down/bias", Flat((width,)))
