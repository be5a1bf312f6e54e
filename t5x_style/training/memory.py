"""The memory table shown before a run starts: what every part takes on one device under the chosen sharding."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from t5x_style.training.setup import Setup


def device_bytes(tree: Any) -> int:
    """Bytes on one device of a tree of ShapeDtypeStructs that carry shardings."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        shard = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        total += math.prod(shard) * np.dtype(leaf.dtype).itemsize
    return total


def table(setup: Setup) -> str:
    """The table as text: MiB a device by part, and the parameters that a rule wanted split but that stay whole."""
    parts = {
        "parameters that train": setup.abstract.trainable,
        "frozen parameters": setup.frozen,
        "gradients": setup.gradients,
        "optimizer state": setup.abstract.optimizer,
        "extras": setup.abstract.extra,
    }
    rows = [(name, device_bytes(tree)) for name, tree in parts.items()]
    rows = [(name, size) for name, size in rows if size or name == "parameters that train"]
    rows.append(("sum without activations", sum(size for _, size in rows)))
    lines = [f"  {name:<24} {size / 2**20:10.1f} MiB a device" for name, size in rows]
    if setup.resolver.replicated:
        lines.append(f"  whole on every device, no dimension divides: {', '.join(sorted(setup.resolver.replicated))}")
    lines += [f"  whole on every device of its axis: {what}" for what in setup.whole]
    return "\n".join(lines)
