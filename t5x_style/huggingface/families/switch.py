"""Switch Transformers: T5 with experts in every so many layers (Fedus et al. 2022).

Routing as transformers has it: the best expert, its probability as the weight, room for `expert_capacity` tokens of
each row. What padding on the left does there, taking room, it does not do here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface.activations import their_activation
from t5x_style.huggingface.families import t5
from t5x_style.huggingface.weights.layouts import Flat, Matrix
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap, experts, one
from t5x_style.models import specs as parts
from t5x_style.models.presets.switch import sparse, with_experts

MODEL_TYPES = {"switch_transformers": "SwitchTransformersForConditionalGeneration"}


def from_config(settings: Mapping[str, Any]) -> parts.EncoderDecoderConfig:
    """Our configuration of their config.json.

    Raises:
      UserError: what no published model has: routers with biases or in another precision than float32, or untied
        embeddings (transformers then reads encoder, decoder and head from three tables).
    """
    _check_tied(settings.get("tie_word_embeddings", True))
    if settings.get("router_bias") or settings.get("router_dtype", "float32") != "float32":
        raise UserError(
            "config.json: router_bias and a router_dtype other than float32 are not known; only without them"
        )
    plain = {**settings, "model_type": "t5", "feed_forward_proj": settings.get("dense_act_fn", "relu")}
    dense = t5.from_config(plain)
    mlp = dense.encoder.layers[0].mlp
    assert isinstance(mlp, parts.MlpSpec)
    moe = parts.MoeSpec(
        settings["num_experts"],
        1,
        mlp,
        mode="capacity",
        normalize=False,
        capacity=settings.get("expert_capacity", 64),
        per_document=True,
        balance_weight=settings.get("router_aux_loss_coef", 0.001),
        z_weight=settings.get("router_z_loss_coef", 0.001),
    )
    layers = len(dense.encoder.layers), len(dense.decoder.layers)
    return sparse(dense, moe, _step(settings, "encoder", layers[0]), _step(settings, "decoder", layers[1]))


def _check_tied(tied: bool) -> None:
    if not tied:
        raise UserError("Switch Transformers need tied embeddings; set tie_word_embeddings (config.json) or tie ours")


def _step(settings: Mapping[str, Any], side: str, layers: int) -> int:
    """Every how many layers one has experts; their 0 sparse layers mean the second one only."""
    count = settings.get(f"num_sparse_{side}_layers", 3)
    step: int = settings.get(f"{side}_sparse_step", layers // count if count else layers)
    return step


def to_config(config: parts.EncoderDecoderConfig, kind: str = "switch_transformers") -> dict[str, Any]:
    """Their config.json of our configuration.

    Raises:
      UserError: experts lie, or count their room, as transformers cannot say; embeddings are not tied.
    """
    _check_tied(config.decoder.tied_embeddings)
    moe = next((layer.mlp for layer in config.encoder.layers if isinstance(layer.mlp, parts.MoeSpec)), None)
    if moe is None or moe.mode != "capacity" or moe.capacity is None or moe.top_k != 1 or moe.normalize:
        raise UserError(
            "transformers' Switch Transformers need layers with MoeSpec(top_k=1, normalize=False, "
            'mode="capacity", capacity=...)'
        )
    dense = dataclasses.replace(config, encoder=_dense(config.encoder, moe), decoder=_dense(config.decoder, moe))
    settings = t5.to_config(dense, "t5")
    del settings["feed_forward_proj"], settings["scale_decoder_outputs"]
    for side, trunk in (("encoder", config.encoder), ("decoder", config.decoder)):
        settings[f"{side}_sparse_step"] = _step_of(trunk)
        settings[f"num_sparse_{side}_layers"] = sum(isinstance(layer.mlp, parts.MoeSpec) for layer in trunk.layers)
    return settings | {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        "dense_act_fn": their_activation(moe.mlp.activation),
        "num_experts": moe.experts,
        "expert_capacity": moe.capacity,
        "router_aux_loss_coef": moe.balance_weight,
        "router_z_loss_coef": moe.z_weight,
    }


def _dense(config: Any, moe: parts.MoeSpec) -> Any:
    layer = dataclasses.replace(config.layers[0], mlp=moe.mlp)
    return dataclasses.replace(config, segments=(parts.LayerGroup((layer,), len(config.layers)),))


def _step_of(config: parts.TransformerConfig) -> int:
    """The step that puts experts where they are."""
    kinds = [isinstance(layer.mlp, parts.MoeSpec) for layer in config.layers]
    for step in range(len(kinds) + 1):
        if with_experts(len(kinds), step) == kinds:
            return step
    places = [number for number, found in enumerate(kinds) if found]
    raise UserError(f"experts in layers {places} of {len(kinds)}: transformers needs them in every n-th layer")


def weight_map(config: parts.EncoderDecoderConfig) -> WeightMap:
    """Their tensors."""
    return t5.weight_map_of(config, layer)


def layer(config: parts.TransformerConfig, number: int) -> Iterator[Rule]:
    """The tensors of one layer, names behind "encoder.block.N.layer."."""
    spec, width = config.layers[number], config.embed_dim
    yield from t5.attentions(spec, width)
    index, mlp = 1 if spec.cross_attention is None else 2, spec.mlp
    one_mlp = mlp.mlp if isinstance(mlp, parts.MoeSpec) else mlp
    inward, outward = Matrix((width,), (one_mlp.hidden,)), Matrix((one_mlp.hidden,), (width,))
    yield one(f"{index}.layer_norm.weight", "mlp_norm/scale", Flat((width,)))
    if isinstance(mlp, parts.MlpSpec):
        yield one(f"{index}.mlp.wi.weight", "mlp/up/kernel", inward)
        yield one(f"{index}.mlp.wo.weight", "mlp/down/kernel", outward)
        return
    yield one(f"{index}.mlp.router.classifier.weight", "mlp/router/kernel", Matrix((width,), (mlp.experts,)))
    yield from experts(f"{index}.mlp.experts.expert_{{}}.wi.weight", "mlp/up/kernel", inward, mlp.experts)
    yield from experts(f"{index}.mlp.experts.expert_{{}}.wo.weight", "mlp/down/kernel", outward, mlp.experts)
