"""Whether a run's models and data can use every axis of the mesh: found before anything is compiled.

A mesh axis that splits neither the batch, nor the length, nor any array of a model makes all its devices do the same
work. An axis is used if act_batch or act_length name it, or if some dimension of a model is split over it. Worked
example, 8 devices, the default tables, 4 heads:

    stage=8      nothing names it                                    refused
    tensor=8     mlp and vocabulary divide, 4 heads do not           refused
    tensor=4     2 key and value heads do not divide                 allowed: they are whole on every device, and listed
    expert=8     a dense model has no experts to split               refused
    context=3    a row of 64 tokens                                  refused
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from t5x_style import mesh as meshes
from t5x_style.data.data_config import DataConfig
from t5x_style.errors import UserError
from t5x_style.models.specs import AttentionSpec, EncoderDecoderConfig, LayerSpec, MoeSpec
from t5x_style.models.specs.recurrent_config import RecurrentConfig

Sizes = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Held:
    """What of a model the mesh may split: its configuration, and the shape and logical axes of every array by path."""

    config: Any
    shapes: Mapping[str, tuple[int, ...]]
    axes: Mapping[str, tuple[str | None, ...]]


def check_lengths(
    data: DataConfig, sizes: Sizes, tables: meshes.Tables, read: Iterable[str], what: str = "DataConfig.length"
) -> None:
    """Raises UserError unless the rows of every side that is read divide over the devices that share the length.

    Args:
      sizes: devices by mesh axis. read: the fields that go to the devices. what: the setting to change.
    """
    ways, named = _ways(sizes, meshes.first_rule(tables.activations, "act_length"))
    wanted = set(read)
    sides = dict.fromkeys(field.side for field in data.spec.fields if field.name in wanted)
    for side, length in ((side, lengths[side]) for lengths in data.lengths_of_parts() for side in sides):
        if length % ways:
            raise UserError(
                f"{named}: {side} rows of {length} tokens do not divide over {ways} devices; change {what} so "
                f"that they are a multiple of {ways}, or make the axis smaller"
            )


def check_models(held: Mapping[str, Held], sizes: Sizes, tables: meshes.Tables) -> tuple[str, ...]:
    """Refuses a mesh that the models of a run, frozen ones included, cannot use.

    Args:
      held: models by name. sizes: devices by mesh axis.

    Returns:
      What stays whole knowingly, in words.

    Raises:
      UserError: heads, experts, feed-forward or vocabulary do not divide over their axis, a recurrent model would be
        computed whole by every device, or an axis splits nothing.
    """
    notes: list[str] = []
    for name, model in held.items():
        if isinstance(model.config, RecurrentConfig):
            _check_recurrent(name, sizes, tables)
        for stack in _stacks(model.config):
            notes += _check_stack(name, stack, sizes, tables)
    _check_expert(held, sizes, tables)
    used = set(meshes.first_rule(tables.activations, "act_batch"))
    used |= set(meshes.first_rule(tables.activations, "act_length"))
    for model in held.values():
        used |= _split_by(model, sizes, tables)
    for axis, size in sizes.items():
        if size > 1 and axis not in used:
            raise UserError(
                f"MeshConfig.{axis}={size}: nothing of {_names(held)} is split over it, so that its devices would all "
                "do the same work; make it 1"
            )
    return tuple(dict.fromkeys(notes))


def _ways(sizes: Sizes, axes: Iterable[str]) -> tuple[int, str]:
    """(devices over these axes, "MeshConfig.context=2" or several)."""
    live = [axis for axis in axes if sizes.get(axis, 1) > 1]
    ways = 1
    for axis in live:
        ways *= sizes[axis]
    return ways, ", ".join(f"MeshConfig.{axis}={sizes[axis]}" for axis in live)


def _stacks(config: Any) -> tuple[Any, ...]:
    """The configurations of a model that have layers of their own."""
    if isinstance(config, EncoderDecoderConfig):
        return config.encoder, config.decoder
    return () if isinstance(config, RecurrentConfig) else (config,)


def _attentions(layers: Iterable[LayerSpec]) -> Iterator[AttentionSpec]:
    for layer in layers:
        yield layer.attention
        if layer.cross_attention is not None:
            yield layer.cross_attention


def _dimensions(config: Any) -> Iterator[tuple[str, int]]:
    """(logical axis, size) of the activations that a configuration makes."""
    for stack in _stacks(config):
        for attention in _attentions(stack.layers):
            yield "act_heads", attention.heads
            yield "act_kv_heads", attention.kv_heads
        for layer in stack.layers:
            if isinstance(layer.mlp, MoeSpec):
                yield "act_expert", layer.mlp.experts
            else:
                yield "act_mlp", layer.mlp.hidden
    yield "act_embed", config.embed_dim
    yield "act_vocab", config.padded_vocab_size


def _split_by(model: Held, sizes: Sizes, tables: meshes.Tables) -> set[str]:
    """The mesh axes over which some parameter or activation is split."""
    specs = [
        meshes.resolve(shape, model.axes[path], tables.parameters, sizes)[0]
        for path, shape in model.shapes.items()
        if len(model.axes[path]) == len(shape)
    ]
    specs += [meshes.resolve((n,), (axis,), tables.activations, sizes)[0] for axis, n in _dimensions(model.config)]
    return {axis for spec in specs for axis in meshes.axes_in(spec)}


def _whole(axis: str, size: int, sizes: Sizes, tables: meshes.Tables) -> str | None:
    """The mesh axes that should split an activation and cannot, as the user writes them; None: all is well."""
    if not meshes.resolve((size,), (axis,), tables.activations, sizes)[1]:
        return None
    return _ways(sizes, meshes.first_rule(tables.activations, axis))[1]


def _check_stack(name: str, config: Any, sizes: Sizes, tables: meshes.Tables) -> list[str]:
    """Heads, feed-forward and vocabulary of one stack; returns what stays whole knowingly."""
    notes = []
    for attention in _attentions(config.layers):
        if wrong := _whole("act_heads", attention.heads, sizes, tables):
            raise UserError(
                f"{wrong}: the {attention.heads} attention heads of {name} do not divide over it, so that its devices "
                f"would all do the same work; make it a divisor of {attention.heads}"
            )
        if wrong := _whole("act_kv_heads", attention.kv_heads, sizes, tables):
            notes.append(f"the {attention.kv_heads} key and value heads of {name} ({wrong})")
    for layer in config.layers:
        mlp = layer.mlp.mlp if isinstance(layer.mlp, MoeSpec) else layer.mlp
        if wrong := _whole("act_mlp", mlp.hidden, sizes, tables):
            raise UserError(
                f"{wrong}: the {mlp.hidden} hidden units of {name}'s feed-forward layers do not divide over it; make "
                f"it a divisor of {mlp.hidden}"
            )
    if config.head is not None and (wrong := _whole("act_vocab", config.padded_vocab_size, sizes, tables)):
        raise UserError(
            f"{wrong}: the {config.padded_vocab_size} rows of {name}'s vocabulary do not divide over it; make "
            "vocab_multiple of the model a multiple of it"
        )
    return notes


def _check_recurrent(name: str, sizes: Sizes, tables: meshes.Tables) -> None:
    """A recurrence goes from token to token on whole weights (models/layers/recurrent.py)."""
    for axis in ("act_length", "act_mlp"):
        ways, named = _ways(sizes, meshes.first_rule(tables.activations, axis))
        if ways > 1:
            raise UserError(
                f"{named}: {name} is a recurrent model, whose layers every device of the axis would compute whole; "
                "use data or fsdp instead"
            )


def _check_expert(held: Mapping[str, Held], sizes: Sizes, tables: meshes.Tables) -> None:
    """The expert axis also splits the batch, but that data and fsdp do as well: it needs experts to split."""
    size = sizes.get("expert", 1)
    if size == 1:
        return
    mixtures = [
        (name, layer.mlp.experts)
        for name, model in held.items()
        for stack in _stacks(model.config)
        for layer in stack.layers
        if isinstance(layer.mlp, MoeSpec)
    ]
    for name, experts in mixtures:
        if _whole("act_expert", experts, sizes, tables):
            raise UserError(
                f"MeshConfig.expert={size}: the {experts} experts of {name} do not divide over it; make it a divisor "
                f"of {experts}"
            )
    if not any("expert" in _split_by(model, sizes, tables) for model in held.values()):
        raise UserError(
            f"MeshConfig.expert={size}: {_names(held)} has no experts to split over it; make it 1 and use data or fsdp "
            "instead"
        )


def _names(held: Mapping[str, Held]) -> str:
    return " or ".join(held)
