"""A head's arrays on their way into the losses' loops and its gradient on the way out: what moves between devices.

Worked example, a table [32000, 4096] in float32 split over fsdp=8, compute dtype bfloat16, 8 devices:

    cast where it is split, then gathered       7/8 of 250 MiB reach a device, of 500 MiB uncast
    gradient reduced and scattered in float32   7/8 of 500 MiB, where a sum that all get takes twice that

Chunks are added up in float32 before, and devices in float32 too: only single chunks have the compute dtype.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec

from t5x_style import mesh


def narrow(head: Any, parameters: Any) -> Any:
    """A head's arrays as they are gathered: its matrices in the compute dtype, still split.

    Every matrix of a head is applied in the compute dtype (`Head.logits`, `Linear.weight`), so that casting before
    gathering changes no number. What is not a matrix keeps its format: biases are added to scores in the logits dtype,
    norms are computed in the reductions dtype. So do whole numbers and what lies beside them, the scales of a quantised
    matrix. A head without `policy` is left alone.

    Args:
      head: a module with `logits`. parameters: of nnx.split(head).
    """
    policy = getattr(head, "policy", None)
    if policy is None:
        return parameters
    dtype = policy.dtype("compute")
    leaves = jax.tree_util.tree_leaves_with_path(parameters, is_leaf=_is_variable)
    quantised = {path[:-1] for path, leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)}

    def one(path: Any, leaf: Any) -> Any:
        if leaf.ndim < 2 or path[:-1] in quantised or dtype.itemsize >= leaf.dtype.itemsize:
            return leaf
        return leaf.replace(mesh.constrain(leaf[...].astype(dtype), _axes(leaf), "parameters"))

    return jax.tree_util.tree_map_with_path(one, parameters, is_leaf=_is_variable)


def gradient_specs(parameters: Any, axes: tuple[str, ...]) -> Any:
    """A tree of PartitionSpecs, one a variable: how its gradient leaves a shard_map that is manual over `axes`.

    The table of gradients decides, as everywhere: split for ZeRO-2 and 3. What no dimension divides leaves whole, and
    so does what an automatic axis splits (a vocabulary over tensor), which a scatter by hand would first gather over
    that axis. Outside it is cut as the table says; on GPUs and TPUs XLA makes one reduce-scatter of sum and cut.
    """
    current = mesh.current_mesh()
    rules, sizes = mesh.current_tables().gradients, dict(current.shape)
    excluded = frozenset(getattr(current, "manual_axes", ()))

    def one(leaf: Any) -> PartitionSpec:
        spec, _ = mesh.resolve(leaf.shape, _axes(leaf), rules, sizes, excluded)
        return spec if set(mesh.axes_in(spec)) <= set(axes) else PartitionSpec()

    return jax.tree.map(one, parameters, is_leaf=_is_variable)


def reduce_scattered(gradients: Any, specs: Any, axes: tuple[str, ...]) -> Any:
    """Inside shard_map: the sum of every array over all of `axes`, of which a device keeps the part that its spec says.

    Example: [4096, 32] with PartitionSpec(None, "fsdp") over data=2, fsdp=4 becomes [4096, 8], summed over both.
    """

    def one(leaf: Any, spec: PartitionSpec) -> Any:
        # what automatic axes split stays so: a collective by hand would gather it first
        total, rest = (
            mesh.constrain(leaf[...], _axes(leaf), "gradients"),
            tuple(axis for axis in axes if axis not in mesh.axes_in(spec)),
        )
        for dimension, entry in enumerate(spec):
            if entry is not None:
                total = jax.lax.psum_scatter(total, entry, scatter_dimension=dimension, tiled=True)
        return leaf.replace(jax.lax.psum(total, rest) if rest else total)

    return jax.tree.map(one, gradients, specs, is_leaf=_is_variable)


def _is_variable(leaf: Any) -> bool:
    return isinstance(leaf, nnx.Variable)


def _axes(leaf: nnx.Variable) -> tuple[str | None, ...]:
    """The logical axes of a variable; none that splits where it has none of this rank."""
    axes = leaf.get_metadata().get("out_sharding") or ()
    return tuple(axes) if len(axes) == leaf.ndim else (None,) * leaf.ndim
