"""T5, T5 v1.1, mT5, Flan-T5, UL2: pre-norm encoder-decoders with one relative bias a trunk (Raffel et al. 2020)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout
from t5x_style.huggingface.activations import activation, their_activation
from t5x_style.huggingface.weights.layouts import Flat, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, layer_rules, one
from t5x_style.models import specs as parts

MODEL_TYPES = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
}


def from_config(settings: Mapping[str, Any]) -> parts.EncoderDecoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: umT5, or another activation.
    """
    settings = defaults.filled(settings)
    if settings["model_type"] == "umt5":
        raise UserError("config.json: umt5 has a relative bias in every layer; of T5's kind only one a trunk is known")
    projection = settings.get("feed_forward_proj", "relu")
    name = projection.removeprefix("gated-")
    # "gated-gelu" stands for the tanh approximation, as in T5 v1.1's own code.
    kind = "gelu_tanh" if projection == "gated-gelu" else activation(name)
    norm = parts.NormSpec("rmsnorm", settings.get("layer_norm_epsilon", 1e-6))
    # transformers 5 writes tie_word_embeddings true whatever the weights are; whether logits are scaled stands apart.
    tied = settings.get("tie_word_embeddings", True)
    scaled = settings.get("scale_decoder_outputs", tied and settings["model_type"] == "t5")
    width, head_dim, heads = settings["d_model"], settings["d_kv"], settings["num_heads"]

    def trunk(causal: bool, layers: int) -> dict[str, Any]:
        attention = parts.AttentionSpec(heads, heads, head_dim, causal=causal, rope=None, scale=1.0)
        cross = parts.AttentionSpec(heads, heads, head_dim, causal=False, rope=None, scale=1.0) if causal else None
        mlp = parts.MlpSpec(settings["d_ff"], kind, gated=projection.startswith("gated-"))
        layer = parts.LayerSpec(attention, mlp, norm, cross_attention=cross)
        bias = parts.RelativeBiasSpec(
            settings.get("relative_attention_num_buckets", 32),
            settings.get("relative_attention_max_distance", 128),
            bidirectional=not causal,
        )
        return {
            "vocab_size": settings["vocab_size"],
            "embed_dim": width,
            "segments": (parts.LayerGroup((layer,), layers),),
            "final_norm": norm,
            "relative_bias": bias,
            "dropout": dropout.read(settings),
        }

    layers = settings["num_layers"]
    return parts.EncoderDecoderConfig(
        encoder=parts.EncoderConfig(**trunk(False, layers)),
        decoder=parts.TransformerConfig(
            **trunk(True, settings.get("num_decoder_layers") or layers),
            tied_embeddings=tied,
            head=parts.HeadSpec(scale=width**-0.5 if scaled else None),
        ),
    )


def to_config(config: parts.EncoderDecoderConfig, kind: str = "t5") -> dict[str, Any]:
    """Their config.json of our configuration."""
    layer, decoder = config.encoder.layers[0], config.decoder
    mlp, bias = layer.mlp, config.encoder.relative_bias
    assert isinstance(mlp, parts.MlpSpec)
    assert bias is not None
    assert decoder.head is not None
    name = their_activation(mlp.activation)
    if mlp.gated:
        name = "gated-gelu" if mlp.activation == "gelu_tanh" else f"gated-{name}"
    return {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        **dropout.write(decoder.dropout, kind),
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.embed_dim,
        "d_kv": layer.attention.head_dim,
        "d_ff": mlp.hidden,
        "num_heads": layer.attention.heads,
        "num_layers": len(config.encoder.layers),
        "num_decoder_layers": len(decoder.layers),
        "relative_attention_num_buckets": bias.buckets,
        "relative_attention_max_distance": bias.max_distance,
        "layer_norm_epsilon": layer.norm.epsilon,
        "feed_forward_proj": name,
        "tie_word_embeddings": decoder.tied_embeddings,
        "scale_decoder_outputs": decoder.head.scale is not None,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


def weight_map(config: parts.EncoderDecoderConfig) -> WeightMap:
    """Their tensors."""
    return weight_map_of(config, layer)


def weight_map_of(
    config: parts.EncoderDecoderConfig, layer: Callable[[parts.TransformerConfig, int], Iterator[Rule]]
) -> WeightMap:
    """The tensors of a model whose layers have the rules of `layer`."""
    encoder, decoder, width = config.encoder, config.decoder, config.embed_dim
    table = Table(config.vocab_size, config.padded_vocab_size, width)
    outside = [one("shared.weight", "embedding/table", table)]
    ignored = [r"(encoder|decoder)\.embed_tokens\.weight"]
    if decoder.tied_embeddings:
        ignored.append(r"lm_head\.weight")
    else:
        outside.append(one("lm_head.weight", "unembedding/table", table))
    found = []
    for side, trunk, norm, stack in (
        ("encoder", "encoder_trunk", "encoder_norm", encoder),
        ("decoder", "trunk", "final_norm", decoder),
    ):
        assert stack.relative_bias is not None
        shape = (stack.relative_bias.buckets, stack.layers[0].attention.heads)
        name = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        outside.append(one(name, f"{trunk}/relative_bias/table", Flat(shape, shape)))
        outside.append(one(f"{side}.final_layer_norm.weight", f"{norm}/scale", Flat((width,))))
        found += layer_rules(stack, side + ".block.{}.layer.", functools.partial(layer, stack), trunk)
    return WeightMap(outside, found, ignored)


def layer(config: parts.TransformerConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "encoder.block.N.layer."."""
    spec, width = config.layers[number], config.embed_dim
    yield from attentions(spec, width)
    index, mlp = 1 if spec.cross_attention is None else 2, spec.mlp
    assert isinstance(mlp, parts.MlpSpec)
    yield one(f"{index}.layer_norm.weight", "mlp_norm/scale", Flat((width,)))
    names = {"wi_0": "gate", "wi_1": "up"} if mlp.gated else {"wi": "up"}
    for theirs, ours in names.items():
        yield one(f"{index}.DenseReluDense.{theirs}.weight", f"mlp/{ours}/kernel", Matrix((width,), (mlp.hidden,)))
    yield one(f"{index}.DenseReluDense.wo.weight", "mlp/down/kernel", Matrix((mlp.hidden,), (width,)))


def attentions(spec: parts.LayerSpec, width: int) -> Iterator[Rule]:
    """The attentions' tensors of one layer, names behind "encoder.block.N.layer."."""
    blocks = [("SelfAttention", "attention")]
    if spec.cross_attention is not None:
        blocks.append(("EncDecAttention", "cross_attention"))
    heads = (spec.attention.heads, spec.attention.head_dim)
    for index, (theirs, ours) in enumerate(blocks):
        norm = "attention_norm" if ours == "attention" else "cross_norm"
        yield one(f"{index}.layer_norm.weight", f"{norm}/scale", Flat((width,)))
        for short, name in (("q", "query"), ("k", "key"), ("v", "value")):
            yield one(f"{index}.{theirs}.{short}.weight", f"{ours}/{name}/kernel", Matrix((width,), heads))
        yield one(f"{index}.{theirs}.o.weight", f"{ours}/output/kernel", Matrix(heads, (width,)))
