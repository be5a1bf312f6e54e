"""Experts on 8 virtual devices, a program of its own (see test_expert_devices.py): prints one JSON line.

python expert_checks.py [all]

`differences`: the largest ones of logits, of gradients (relative) and of the rows' losses from one device, by case.
`flops`: floating-point operations of one device, by mesh, as a share of those where there is one device.
"""

import dataclasses
import json
import os
import sys

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # see quick_to_compile in tests/conftest.py
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from t5x_style import mesh as meshes
from t5x_style.models import specs as parts
from t5x_style.models.specs import FLOAT32
from tests.models.execution_checks import AT_ONCE, PLAIN, VOCAB, drawn, layer, stack

BATCH, LENGTH = 8, 16
DROPLESS = parts.MoeSpec(4, 2, parts.MlpSpec(64), balance_weight=0.5, z_weight=0.1)
APART = dataclasses.replace(DROPLESS, mode="capacity", capacity_factor=0.8, per_document=True)
ROOM = dataclasses.replace(APART, per_document=False)
MESHES = {
    "data": meshes.MeshConfig(data=8),
    "data4": meshes.MeshConfig(data=4),
    "fsdp": meshes.MeshConfig(data=1, fsdp=8),
    "fsdp x tensor": meshes.MeshConfig(data=1, fsdp=4, tensor=2),
    "expert": meshes.MeshConfig(data=2, fsdp=2, expert=2),
    "context": meshes.MeshConfig(data=1, fsdp=4, context=2),
    "stage": meshes.MeshConfig(data=2, fsdp=2, stage=2),
}


def inputs():
    """Tokens and their documents, [BATCH, LENGTH] each; rows differ in length."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, VOCAB, (BATCH, LENGTH))
    places = np.arange(LENGTH)
    lengths = random.integers(LENGTH // 2, LENGTH + 1, (BATCH, 1))
    return tokens, np.where(places < lengths, 1 + (places >= lengths // 3), 0)


def program(spec, execution, policy=FLOAT32):
    """(function of (state, tokens, segments), state): value, logits and row losses, and the gradient."""
    config = stack(parts.DecoderConfig, parts.LayerGroup((layer(spec),), 2))
    graphdef, state = nnx.split(drawn(config, 1, policy, execution=execution))

    def loss(state, tokens, segments):
        model = nnx.merge(graphdef, state)
        hidden, losses = model(tokens, segment_ids=segments, return_losses=True)
        logits = model.head.logits(hidden)[..., :VOCAB]
        weights = (segments != 0)[..., None]
        rows = sum(losses.values())
        return jnp.sum(jnp.sin(logits) * weights) + jnp.sum(rows), (logits * weights, rows)

    return jax.value_and_grad(loss, has_aux=True), state


def lowered(function, state, mesh_config=None):
    """(the compiled program, its arguments) on one device or on a mesh of the first devices."""
    tokens, segments = inputs()
    if mesh_config is None:
        return jax.jit(function).lower(state, tokens, segments).compile(), (state, tokens, segments)
    size = int(np.prod([max(size, 1) for size in mesh_config.sizes]))
    mesh = meshes.make_mesh(mesh_config, jax.devices()[:size])
    tables = mesh_config.resolved_tables
    resolver = meshes.Resolver(mesh, tables)

    def place(leaf):
        axes = leaf.get_metadata()["out_sharding"]
        return leaf.replace(jax.device_put(leaf[...], resolver.sharding(leaf.shape, axes, "parameters")))

    placed = jax.tree.map(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    arrays = [jax.device_put(array, meshes.batch_sharding(mesh, tables, 2)) for array in (tokens, segments)]
    with meshes.use(mesh, tables):
        return jax.jit(function).lower(placed, *arrays).compile(), (placed, *arrays)


def result(spec, execution, mesh_config=None, policy=FLOAT32):
    """(logits, row losses, gradients by leaf) as float32."""
    function, state = program(spec, execution, policy)
    if mesh_config is not None and mesh_config.stage > 1:
        whole, axes = PartitionSpec(), {"stage"}
        function = jax.shard_map(function, in_specs=whole, out_specs=whole, axis_names=axes, check_vma=False)
    compiled, arguments = lowered(function, state, mesh_config)
    (_, (logits, rows)), gradient = compiled(*arguments)
    return jax.tree.map(lambda array: np.asarray(array, np.float32), (logits, rows, jax.tree.leaves(gradient)))


def differences(found, expected):
    """(largest of the logits, of a gradient relative to its largest entry, of the rows' losses)."""
    largest = max(float(np.abs(leaf).max()) for leaf in expected[2])
    relative = [
        float(np.abs(one - other).max()) / max(float(np.abs(other).max()), 1e-3 * largest)
        for one, other in zip(found[2], expected[2], strict=True)
    ]
    return float(np.abs(found[0] - expected[0]).max()), max(relative), float(np.abs(found[1] - expected[1]).max())


def flops(mesh_config=None):
    """What XLA counts for one device, layers unrolled and nothing recomputed.

    XLA's CPU backend multiplies every token by every expert's matrix and masks the rest, here and there alike.
    """
    function, state = program(DROPLESS, PLAIN)
    return lowered(function, state, mesh_config)[0].cost_analysis()["flops"]


CASES = {
    "dropless, scan and remat, expert": (DROPLESS, AT_ONCE, "expert"),
    **{f"dropless, {name}": (DROPLESS, PLAIN, name) for name in MESHES if name not in ("data4", "stage")},
    "dropless, within a region manual over stage": (DROPLESS, AT_ONCE, "stage"),
    "per document, fsdp x tensor": (APART, PLAIN, "fsdp x tensor"),
    "per document, context": (APART, PLAIN, "context"),
    "room by row, expert": (ROOM, PLAIN, "expert"),
}
FEW = ("dropless, scan and remat, expert",), ("data4",)


def main(cases, names):
    one = {id(spec): result(spec, PLAIN) for spec in {id(CASES[case][0]): CASES[case][0] for case in cases}.values()}
    found = {}
    for case in cases:
        spec, execution, name = CASES[case]
        found[case] = differences(result(spec, execution, MESHES[name]), one[id(spec)])
    alone = flops()
    shares = {name: flops(MESHES[name]) / alone for name in names}
    sys.stdout.write(json.dumps({"differences": found, "flops": shares}) + "\n")


if __name__ == "__main__":
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    main(*((CASES, [name for name in MESHES if name != "stage"]) if "all" in sys.argv else FEW))
