"""The memory table shown before a run starts: what every part takes on one device under the chosen sharding."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from t5x_style.training.setup import Layout


def device_bytes(tree: Any) -> int:
    """Bytes on one device of a tree of ShapeDtypeStructs that carry shardings."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        shard = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding is not None else leaf.shape
        total += math.prod(shard) * np.dtype(leaf.dtype).itemsize
    return total


def parts(layout: Layout) -> dict[str, int]:
    """Bytes on one device by part, those that are there; activations not."""
    found = {
        "parameters that train": device_bytes(layout.abstract.trainable),
        "frozen parameters": device_bytes(layout.frozen),
        "gradients": device_bytes(layout.gradients),
        "optimizer state": device_bytes(layout.abstract.optimizer),
        "extras": device_bytes(layout.abstract.extra),
    }
    return {name: size for name, size in found.items() if size}


def table(layout: Layout) -> str:
    """The table as text: MiB a device by part, and the parameters that a rule wanted split but that stay whole."""
    rows = [*parts(layout).items()]
    rows.append(("sum without activations", sum(size for _, size in rows)))
    lines = [f"  {name:<24} {size / 2**20:10.1f} MiB a device" for name, size in rows]
    if layout.resolver.replicated:
        lines.append(f"  whole on every device, no dimension divides: {', '.join(sorted(layout.resolver.replicated))}")
    lines += [f"  whole on every device of its axis: {what}" for what in layout.whole]
    return "\n".join(lines)
