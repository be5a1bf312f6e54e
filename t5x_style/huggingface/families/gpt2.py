"""GPT-2: pre-norm LayerNorm decoder with learned positions and matrices stored [in, out] (Radford et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout
from t5x_style.huggingface.activations import activation
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, fused, layer_norm, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {"gpt2": "GPT2LMHeadModel"}


def from_config(settings: Mapping[str, Any]) -> parts.DecoderConfig:
    """Our configuration of their config.json."""
    settings = defaults.filled(settings)
    width, heads = settings["n_embd"], settings["n_head"]
    norm = parts.NormSpec("layernorm", settings.get("layer_norm_epsilon", 1e-5))
    head_dim = width // heads
    scale = head_dim**-0.5 if settings.get("scale_attn_weights", True) else 1.0

    def layer(number: int) -> parts.LayerSpec:
        own = scale / (number + 1) if settings.get("scale_attn_by_inverse_layer_idx", False) else scale
        attention = parts.AttentionSpec(heads, heads, head_dim, rope=None, qkv_bias=True, output_bias=True, scale=own)
        hidden = settings.get("n_inner") or 4 * width
        mlp = parts.MlpSpec(hidden, activation(settings["activation_function"]), gated=False, bias=True)
        return parts.LayerSpec(attention, mlp, norm)

    layers = [layer(number) for number in range(settings["n_layer"])]
    same = layers.count(layers[0]) == len(layers)
    return parts.DecoderConfig(
        vocab_size=settings["vocab_size"],
        embed_dim=width,
        dropout=dropout.read(settings),
        segments=(parts.LayerGroup((layers[0],), len(layers)),)
        if same
        else tuple(parts.LayerGroup((x,)) for x in layers),
        final_norm=norm,
        tied_embeddings=settings.get("tie_word_embeddings", True),
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", settings["n_positions"])),
    )


def to_config(config: parts.DecoderConfig, kind: str = "gpt2") -> dict[str, Any]:
    """Their config.json of our configuration; UserError where the format has no word for it."""
    layer, positions = config.layers[0], config.embedding.positions
    assert isinstance(layer.mlp, parts.MlpSpec)
    assert positions is not None
    spec, scales = layer.attention, [x.attention.scale or x.attention.head_dim**-0.5 for x in config.layers]
    if any(x.attention.window is not None for x in config.layers):
        raise UserError(f"{kind} has no windows (locally banded layers), this model has some; write it as gpt3")
    if spec.heads * spec.head_dim != config.embed_dim:
        raise UserError(f"{kind} has heads of {config.embed_dim} / {spec.heads}, this model of {spec.head_dim}")
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(config.dropout, kind),
        "vocab_size": config.vocab_size,
        "n_embd": config.embed_dim,
        "n_layer": len(config.layers),
        "n_head": layer.attention.heads,
        "n_inner": layer.mlp.hidden,
        "n_positions": positions.length,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(layer.mlp.activation, layer.mlp.activation),
        "layer_norm_epsilon": layer.norm.epsilon,
        "scale_attn_weights": scales[0] == spec.head_dim**-0.5,
        "scale_attn_by_inverse_layer_idx": len(set(scales)) > 1,
        "tie_word_embeddings": config.tied_embeddings,
    }


def weight_map(config: parts.DecoderConfig) -> WeightMap:
    """Their tensors; files of the base model have the same names without "transformer."."""
    positions, width = config.embedding.positions, config.embed_dim
    assert positions is not None
    rows = (positions.length, width)
    outside = [
        one("transformer.wte.weight", "embedding/table", Table(config.vocab_size, config.padded_vocab_size, width)),
        one("transformer.wpe.weight", "embedding/positions/table", Flat(rows, rows)),
        *layer_norm("transformer.ln_f", "final_norm", width),
    ]
    ignored = [r".*\.attn\.(bias|masked_bias)"]
    if config.tied_embeddings:
        ignored.append(r"lm_head\.weight")
    else:
        table = Table(config.vocab_size, config.padded_vocab_size, width)
        outside.append(one("lm_head.weight", "unembedding/table", table))
    layers = layer_rules(config, "transformer.h.{}.", lambda number: layer(config, number))
    return WeightMap(outside, layers, ignored)


def layer(config: parts.DecoderConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "transformer.h.N."."""
    spec, width = config.layers[number], config.embed_dim
    assert isinstance(spec.mlp, parts.MlpSpec)
    heads, hidden = (spec.attention.heads, spec.attention.head_dim), spec.mlp.hidden
    for theirs, ours in (("ln_1", "attention_norm"), ("ln_2", "mlp_norm")):
        yield from layer_norm(theirs, ours, width)
    names = [f"attention/{name}/" for name in ("query", "key", "value")]
    inward = Matrix((width,), heads, straight=True)
    yield fused("attn.c_attn.weight", {f"{name}kernel": inward for name in names})
    yield fused("attn.c_attn.bias", {f"{name}bias": Flat(heads) for name in names})
    yield one("attn.c_proj.weight", "attention/output/kernel", Matrix(heads, (width,), straight=True))
    yield one("attn.c_proj.bias", "attention/output/bias", Flat((width,)))
    yield one("mlp.c_fc.weight", "mlp/up/kernel", Matrix((width,), (hidden,), straight=True))
    yield one("mlp.c_fc.bias", "mlp/up/bias", Flat((hidden,)))
    yield one("mlp.c_proj.weight", "mlp/down/kernel", Matrix((hidden,), (width,), straight=True))
    yield one("mlp.c_proj.bias", "mlp/down/bias", Flat((width,)))
