"""The device mesh and the three tables that say which dimension of which array lies on which mesh axis.

Arrays name their dimensions (logical axes); tables map the names to mesh axes. ZeRO stages, tensor and context
parallelism are entries in these tables, never code in a model. Resolution of one array, left to right: each mesh
axis is used once, the first rule of a name whose axes are free and divide the dimension wins, otherwise the next rule
of that name is tried, otherwise the dimension is replicated (and reported by `Resolver.replicated`).

Worked example, mesh fsdp=4, tensor=2, rules (("vocab", "tensor"), ("vocab", "fsdp"), ("embed", "fsdp")):

    shape (4096, 128), axes ("vocab", "embed")  ->  P("tensor", "fsdp")
    shape (4095, 128), axes ("vocab", "embed")  ->  P(None, "fsdp")      4095 divides by neither 2 nor 4
    shape (128, 128),  axes ("embed", "embed")  ->  P("fsdp", None)      fsdp is used once
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from t5x_style.errors import UserError

AXES = ("data", "fsdp", "stage", "context", "tensor", "expert")
Rule = tuple[str, str | tuple[str, ...]]
Rules = tuple[Rule, ...]

# Tensor parallelism (Megatron-LM, section 3): heads and mlp columns, then the vocabulary. fsdp takes what is left.
TENSOR_RULES: Rules = (
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("expert", "expert"),
)
FSDP_RULES: Rules = (("embed", "fsdp"), ("vocab", "fsdp"), ("mlp", "fsdp"), ("heads", "fsdp"), ("head_dim", "fsdp"))
ACTIVATION_RULES: Rules = (
    ("act_batch", ("data", "fsdp", "expert")),
    ("act_length", "context"),
    ("act_heads", "tensor"),
    ("act_kv_heads", "tensor"),
    ("act_mlp", "tensor"),
    ("act_vocab", "tensor"),
    ("act_expert", "expert"),
)


@dataclasses.dataclass(frozen=True)
class Tables:
    """The sharding tables of a run.

    Attributes:
      parameters, activations, optimizer: rules (logical axis, mesh axis or axes), tried in order.
      gradients: rules of the accumulated gradients; ZeRO-2 and 3 shard them like the optimizer state.
    """

    parameters: Rules = TENSOR_RULES + FSDP_RULES
    activations: Rules = ACTIVATION_RULES
    optimizer: Rules = TENSOR_RULES + FSDP_RULES
    gradients: Rules = TENSOR_RULES + FSDP_RULES

    def __post_init__(self):
        for field in dataclasses.fields(self):
            for name, axes in getattr(self, field.name):
                unknown = set(_tuple(axes)) - set(AXES)
                if unknown:
                    raise UserError(
                        f"sharding rule ({name!r}, {axes!r}) in {field.name} names mesh axis {sorted(unknown)[0]!r}; "
                        f"the axes are {', '.join(AXES)}"
                    )


def zero(stage: int = 3) -> Tables:
    """The tables of a ZeRO stage over the fsdp axis (Rajbhandari et al. 2020, section 5).

    0: all replicated; 1: optimizer state sharded; 2: and gradients; 3: and parameters (FSDP).
    Tensor and expert rules hold at every stage.

    Raises:
      UserError: another stage.
    """
    if stage not in (0, 1, 2, 3):
        raise UserError(f"zero_stage {stage!r} does not exist; choose 0, 1, 2 or 3")
    sharded = TENSOR_RULES + FSDP_RULES
    return Tables(
        parameters=sharded if stage >= 3 else TENSOR_RULES,
        gradients=sharded if stage >= 2 else TENSOR_RULES,
        optimizer=sharded if stage >= 1 else TENSOR_RULES,
    )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices per mesh axis; at most one may be -1, which takes all that remain.

    Attributes:
      data: replicas. fsdp: shards of parameters and optimizer state. tensor, context, expert, stage: model axes.
      zero_stage: what the fsdp axis splits, 0 to 3 (see `zero`).
      tables: sharding tables of your own instead of the stage's; `resolved_tables` gives those in force.

    Raises:
      UserError: sizes or a stage that cannot be, or both a stage and tables.
    """

    data: int = -1
    fsdp: int = 1
    stage: int = 1
    context: int = 1
    tensor: int = 1
    expert: int = 1
    zero_stage: int = 3
    tables: Tables | None = None

    def __post_init__(self):
        zero(self.zero_stage)
        if self.tables is not None and self.zero_stage != 3:
            raise UserError(
                f"MeshConfig has both zero_stage = {self.zero_stage} and tables; leave one of them out "
                "(zero_stage = 3 and tables = None are the defaults)"
            )
        sizes = self.sizes
        if any(size == 0 or size < -1 for size in sizes) or sizes.count(-1) > 1:
            raise UserError(f"mesh sizes {dict(zip(AXES, sizes))}: positive numbers, and at most one -1 for the rest")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes in the order of AXES, as given."""
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def resolved_tables(self) -> Tables:
        """The sharding tables in force: `tables` where given, otherwise those of the ZeRO stage."""
        return zero(self.zero_stage) if self.tables is None else self.tables


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over all devices (or those given), every axis Auto.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = mesh_sizes(config, len(devices))
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def abstract_mesh(config: MeshConfig, devices: int) -> AbstractMesh:
    """The mesh that so many devices would make, without any.

    Raises:
      UserError: the sizes do not multiply to the number of devices.
    """
    return AbstractMesh(mesh_sizes(config, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_sizes(config: MeshConfig, devices: int) -> tuple[int, ...]:
    """The sizes of AXES on so many devices, -1 filled in.

    Raises:
      UserError: they do not multiply to the number of devices.
    """
    sizes = list(config.sizes)
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, devices // known)
    if math.prod(sizes) != devices:
        needed = f"a multiple of {known}" if -1 in config.sizes else str(known)
        raise UserError(
            f"mesh {dict(zip(AXES, config.sizes))} needs {needed} devices, there are {devices}; change the mesh sizes "
            "or the number of devices"
        )
    return tuple(sizes)


def _tuple(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def first_rule(rules: Rules, name: str) -> tuple[str, ...]:
    """The mesh axes of a logical axis by its first rule; () where it has none."""
    return next((_tuple(axes) for rule, axes in rules if rule == name), ())


def axes_in(spec: Iterable[Any]) -> tuple[str, ...]:
    """The mesh axes that a PartitionSpec, or some of its entries, name."""
    return tuple(axis for entry in spec for axis in _tuple(entry))


def resolve(
    shape: Sequence[int],
    axes: Sequence[str | None],
    rules: Rules,
    sizes: Mapping[str, int],
    exclude: frozenset = frozenset(),
) -> tuple[PartitionSpec, tuple[str, ...]]:
    """Chooses the mesh axes of one array.

    Args:
      shape: its dimensions. axes: their logical names (None: never sharded).
      rules: (logical name, mesh axes) in order of preference.
      sizes: devices per mesh axis. exclude: mesh axes not to use (manual ones inside shard_map).

    Returns:
      (the PartitionSpec, the names that have a rule over more than one device but stayed replicated).
    """
    used: set[str] = set(exclude)
    entries: list[Any] = []
    replicated = []
    for size, name in zip(shape, axes, strict=True):
        chosen, wanted = None, False
        for rule_name, rule_axes in rules:
            if rule_name != name:
                continue
            live = tuple(axis for axis in _tuple(rule_axes) if sizes.get(axis, 1) > 1)
            if not live:
                continue
            wanted = True
            if not used.intersection(live) and size % math.prod(sizes[axis] for axis in live) == 0:
                chosen = live
                break
        if chosen:
            used.update(chosen)
            entries.append(chosen[0] if len(chosen) == 1 else chosen)
        else:
            entries.append(None)
            if wanted and not exclude:
                replicated.append(str(name))
    while entries and entries[-1] is None:
        entries.pop()
    return PartitionSpec(*entries), tuple(replicated)


@dataclasses.dataclass
class Resolver:
    """Turns logical axes into shardings on one mesh and remembers what stayed whole although a rule wanted it split."""

    mesh: Mesh | AbstractMesh
    tables: Tables
    replicated: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def sharding(self, shape: Sequence[int], axes: Sequence[str | None], table: str, name: str = "") -> NamedSharding:
        """The sharding of one array by the named table ("parameters", "optimizer", "gradients" or "activations")."""
        if len(axes) != len(shape):
            axes = (None,) * len(shape)
        spec, replicated = resolve(shape, axes, getattr(self.tables, table), dict(self.mesh.shape))
        if replicated and name and all(entry is None for entry in spec):
            self.replicated[name] = replicated
        return NamedSharding(self.mesh, spec)

    def replicate(self) -> NamedSharding:
        """The sharding that keeps a whole copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())


_TABLES: ContextVar[Tables | None] = ContextVar("sharding_tables", default=None)


@contextlib.contextmanager
def use(mesh: Mesh, tables: Tables) -> Iterator[None]:
    """Makes `mesh` the current one and lets `constrain` read `tables`."""
    token = _TABLES.set(tables)
    try:
        with jax.set_mesh(mesh):
            yield
    finally:
        _TABLES.reset(token)


def current_mesh() -> Any:
    """The mesh in force (abstract while tracing), or None outside `use`."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def is_split() -> bool:
    """Whether a mesh of several devices is in force, so that arrays may be split over them."""
    mesh = current_mesh()
    return mesh is not None and mesh.size > 1


def current_tables() -> Tables:
    """The tables in force, the default ones outside `use`."""
    return _TABLES.get() or Tables()


def constrain(array: jax.Array, axes: Sequence[str | None], table: str = "activations") -> jax.Array:
    """Pins an array's sharding by its logical axes; returns it unchanged where no mesh is in force.

    Args:
      array: any array. axes: one logical name a dimension, such as ("act_batch", "act_length", "act_embed").
      table: of Tables, in which the names are looked up.
    """
    if not is_split():
        return array
    mesh = current_mesh()
    manual = frozenset(getattr(mesh, "manual_axes", ()))
    spec, _ = resolve(array.shape, axes, getattr(current_tables(), table), dict(mesh.shape), manual)
    return jax.lax.with_sharding_constraint(array, spec)


def token_axes(shape: Sequence[int]) -> tuple[PartitionSpec, tuple[str, ...]]:
    """The spec of a [B, L] array on the mesh in force and the mesh axes it uses, for `jax.shard_map` over tokens.

    No axes where no mesh is in force, or where none of those that are not manual already divides the array.
    """
    if not is_split():
        return PartitionSpec(), ()
    mesh = current_mesh()
    manual = frozenset(getattr(mesh, "manual_axes", ()))
    spec, _ = resolve(shape, ("act_batch", "act_length"), current_tables().activations, dict(mesh.shape), manual)
    return spec, tuple(axis for entry in spec for axis in _tuple(entry))


def map_tokens(function: Callable[..., Any], whole: Any, *arrays: jax.Array) -> Any:
    """function(whole, *arrays) on every device's own tokens, by `jax.shard_map` over the axes of `token_axes`.

    For what XLA would gather all tokens for: sorting, counting, custom calls. Axes that do not split tokens (tensor)
    stay XLA's matter inside.

    Args:
      function: gives arrays [b, l, ...] for arrays [b, l, ...] of one device.
      whole: a tree that every device gets whole, gathered over the axes of the tokens; its gradient is added up over
        them. arrays: [B, L, ...].
    """
    spec, axes = token_axes(arrays[0].shape[:2])
    if not axes:
        return function(whole, *arrays)
    # check_vma=False: all outputs are split, and inputs that come in whole have one sum of gradients, at the border.
    specs = (PartitionSpec(), *(spec for _ in arrays))
    spread = jax.shard_map(function, in_specs=specs, out_specs=spec, axis_names=set(axes), check_vma=False)
    return spread(whole, *arrays)


def batch_sharding(mesh: Mesh, tables: Tables, rank: int, leading: int = 0) -> NamedSharding:
    """Sharding of a batch array [.., batch, length, ...] with `leading` unsharded dimensions before the batch.

    Every mesh axis of act_batch is used whatever the batch size: a batch that does not divide is an error to be
    found by `check_batch`, not to be replicated.
    """
    sizes = dict(mesh.shape)
    live = tuple(axis for axis in first_rule(tables.activations, "act_batch") if sizes[axis] > 1)
    length = first_rule(tables.activations, "act_length")
    spread = tuple(axis for axis in length if sizes[axis] > 1) if rank > leading + 1 else ()
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, live or None, spread or None))


def check_batch(rows: int, mesh: Mesh | AbstractMesh, tables: Tables, what: str = "batch_size / accumulation") -> None:
    """Raises UserError unless `rows` of a microbatch divide over the devices that share the batch; what: to change."""
    sizes = dict(mesh.shape)
    batch = first_rule(tables.activations, "act_batch")
    ways = math.prod(sizes[axis] for axis in batch)
    if rows % ways:
        raise UserError(
            f"a microbatch of {rows} rows does not divide over {ways} devices "
            f"({', '.join(f'{axis}={sizes[axis]}' for axis in batch)}); "
            f"make {what} a multiple of {ways}"
        )


def local_rows(sharding: NamedSharding, rows: int, leading: int = 0) -> list[int]:
    """The rows of a microbatch that this process's devices hold, in order, read from the batch sharding.

    Example: 8 rows over 4 devices on 2 processes: process 0 gets [0, 1, 2, 3], process 1 [4, 5, 6, 7].
    """
    shape = (1,) * leading + (rows, 1)
    spec = PartitionSpec(*sharding.spec[: leading + 1])
    wanted: set[int] = set()
    for index in NamedSharding(sharding.mesh, spec).addressable_devices_indices_map(shape).values():
        piece = index[leading] if index else slice(None)
        wanted.update(range(rows)[piece])
    return sorted(wanted)
