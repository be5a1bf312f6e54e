"""Runs on 8 virtual devices in a process of its own (see test_sharded.py); prints one JSON line of findings.

python sharded_checks.py scan|unrolled MESH ...
"""

import json
import os
import pathlib
import re
import sys
import tempfile

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # see quick_to_compile in tests/conftest.py
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from t5x_style import mesh as meshes
from t5x_style.losses.chunked import token_log_probs
from t5x_style.losses.chunked_function import chunked, chunked_sum
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.losses.distillation import Distillation, divergence
from t5x_style.losses.dpo import DPO
from t5x_style.losses.frozen import frozen
from t5x_style.losses.label_smoothing import smoothed
from t5x_style.losses.loss import ModelSource, Now
from t5x_style.losses.task_heads import TaskHeads
from t5x_style.models import Execution, build
from t5x_style.models.presets.llama import llama
from t5x_style.models.specs import DtypePolicy, HeadSpec, NormSpec, TaskHeadSpec
from tests.losses import checks
from tests.models.execution_checks import drawn

BATCH, LENGTH, VOCAB, WIDTH = 8, 64, 500, 32
MESHES = {
    "fsdp": meshes.MeshConfig(data=1, fsdp=8),
    "data_fsdp_tensor": meshes.MeshConfig(data=2, fsdp=2, tensor=2),
    "context": meshes.MeshConfig(data=1, fsdp=2, context=2, tensor=2),
    "zero1": meshes.MeshConfig(data=1, fsdp=8, zero_stage=1),
}
COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def shapes(text):
    return [tuple(map(int, filter(None, dims.split(",")))) for dims in re.findall(r"\w+\[([\d,]*)\]", text)]


def loop_collectives(hlo):
    """Element counts of the collectives in the computations that a while loop reaches, and in all others."""
    bodies, inside, outside = {}, [], []
    name = None
    for line in hlo.splitlines():
        start = re.match(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if start:
            name, bodies[start.group(1)] = start.group(1), []
        elif name:
            bodies[name].append(line)
    reached, todo = set(), re.findall(r"body=%?([\w.\-]+)", hlo)
    while todo:
        name = todo.pop()
        if name not in reached and name in bodies:
            reached.add(name)
            todo += re.findall(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)", "\n".join(bodies[name]))
    for name, lines in bodies.items():
        for line in lines:
            found = COLLECTIVE.search(line)
            if found:
                sizes = [int(np.prod(shape)) for shape in shapes(found.group(1))]
                (inside if name in reached else outside).append(max(sizes, default=0))
    return inside, outside


def spread(state, resolver):
    """A state on the mesh, as the tables have it."""

    def place(leaf):
        axes = leaf.get_metadata()["out_sharding"]
        return leaf.replace(jax.device_put(leaf[...], resolver.sharding(leaf.shape, axes, "parameters")))

    return jax.tree.map(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))


def whole_losses(mesh_config):
    """Largest differences of terms, and of gradients by size, of several losses on a mesh from one device.

    Pairs and segments lie in rows, rows on devices: nothing of a row but what a collective carries leaves its device.
    """
    heads = (
        TaskHeadSpec("nli", "classification", ("a", "b", "c"), pool="last"),
        TaskHeadSpec("answer", "span"),
        TaskHeadSpec("choice", "choice", pool="first"),
    )
    config = checks.decoder(tasks=heads)
    held = {name: checks.model(config, seed) for seed, name in enumerate(("policy", "teacher", "reference"))}
    losses = (
        Distillation(ModelSource()),
        DPO(pairs=2),
        TaskHeads({head.name: head.kind for head in heads}, segments=4, language_model=0.5),
    )
    random = np.random.default_rng(5)
    segments = np.sort(random.integers(1, 5, (BATCH, LENGTH)), axis=1)
    batch = checks.batch("decoder", segments)
    for name, labels in (("nli", 3), ("choice", 2), ("answer", 1)):
        by_segment = random.integers(0, labels, (BATCH, 4))
        at = np.take_along_axis(by_segment, segments - 1, axis=1)
        batch[f"decoder_{name}_labels"] = np.stack([at, at], axis=-1) if name == "answer" else at
        batch[f"decoder_{name}_weights"] = np.ones((BATCH, LENGTH), np.float32)
    graphs, states = checks.split(held)

    def total(states, batch):
        models = {name: nnx.merge(graphs[name], states[name]) for name in graphs}
        terms = [
            value / loss.weights(batch)[name]
            for loss in losses
            for name, value in loss(models, batch, Now(jnp.int32(0))).losses.items()
        ]
        return sum(terms), jnp.stack(terms)

    gradient, terms = jax.jit(jax.grad(total, has_aux=True))(states, batch)
    mesh = meshes.make_mesh(mesh_config)
    resolver = meshes.Resolver(mesh, mesh_config.resolved_tables)
    placed = {name: spread(state, resolver) for name, state in states.items()}
    inputs = {
        name: jax.device_put(a, meshes.batch_sharding(mesh, mesh_config.resolved_tables, a.ndim))
        for name, a in batch.items()
    }
    with meshes.use(mesh, mesh_config.resolved_tables):
        found = jax.jit(jax.grad(total, has_aux=True))(placed, inputs)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    differences = [
        float(np.abs(np.asarray(one) - np.asarray(other)).max()) / largest
        for one, other in zip(jax.tree.leaves(found[0]), jax.tree.leaves(gradient))
    ]
    return {"terms": float(np.abs(np.asarray(found[1]) - terms).max()), "gradient": max(differences)}


def partitioned(lowered):
    """(the program, [dtype, collective, *shape] of its arrays of two or more dimensions).

    The CPU's moves float32 where bfloat16 is wanted; what XLA's partitioner writes is what GPUs and TPUs move.
    """
    with tempfile.TemporaryDirectory() as folder:
        compiled = lowered.compile(
            compiler_options={"xla_dump_to": folder, "xla_dump_hlo_pass_re": "spmd-partitioning"}
        )
        (text,) = [file.read_text() for file in pathlib.Path(folder).glob("*after_spmd-partitioning*")]
    found = re.findall(r"= (\w+)\[(\d+(?:,\d+)+)\]\S* ([a-z\-]+)\(", text)
    moves = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
    return compiled, sorted((dtype, move, *map(int, dims.split(","))) for dtype, dims, move in found if move in moves)


def without_cache(findings):
    """Programs that the compilation cache holds would not be partitioned again. JAX asks once whether it is in use."""
    before = jax.config.jax_enable_compilation_cache
    try:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        return findings()
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def head_collectives():
    """What the losses of a head in bfloat16 move between 8 devices, and how far their gradients are from one device's.

    Cases: a table of its own; the masked-LM head with transform, norm and bias; a table that no 8 devices can split;
    one whose vocabulary is split over tensor; one split over two axes, in another order than the mesh has them.
    """
    joint = (("embed", ("fsdp", "data")),)
    both = meshes.MeshConfig(data=2, fsdp=4, tables=meshes.Tables(parameters=joint, gradients=joint))
    masked = HeadSpec(bias=True, transform="gelu", transform_norm=NormSpec("layernorm"))
    cases = {
        "plain": (checks.decoder(32, 128), MESHES["fsdp"]),
        "masked": (checks.decoder(32, 128, head=masked), MESHES["fsdp"]),
        "odd": (checks.decoder(36, 1), MESHES["fsdp"]),
        "tensor": (checks.decoder(32, 128), MESHES["data_fsdp_tensor"]),
        "zero1": (checks.decoder(32, 128), MESHES["zero1"]),
        "joint": (checks.decoder(32, 128), both),
    }
    random = np.random.default_rng(3)
    targets = random.integers(0, checks.VOCAB, (BATCH, LENGTH))
    weights = random.choice([0.0, 1.0, 0.5], size=(BATCH, LENGTH)).astype(np.float32)
    found = {}
    for name, (config, mesh_config) in cases.items():
        graphdef, state = nnx.split(drawn(config, policy=DtypePolicy(compute="bfloat16")).head)
        hidden = jnp.asarray(random.normal(size=(BATCH, LENGTH, config.embed_dim)), jnp.bfloat16)

        def summed(state, hidden, targets, weights, graphdef=graphdef):
            return cross_entropy(nnx.merge(graphdef, state), hidden, targets, weights, chunk_size=16)[0]

        def by_token(state, hidden, targets, weights, graphdef=graphdef):
            parts = token_log_probs(nnx.merge(graphdef, state), hidden, targets, chunk_size=16)
            return -jnp.sum(weights * parts.log_probs)

        tables = mesh_config.resolved_tables
        mesh = meshes.make_mesh(mesh_config)
        resolver = meshes.Resolver(mesh, tables)
        placed = spread(state, resolver)
        inputs = [jax.device_put(a, meshes.batch_sharding(mesh, tables, a.ndim)) for a in (hidden, targets, weights)]
        for loss in (summed, by_token) if name == "plain" else (summed,):
            expected = jax.jit(jax.grad(loss))(state, hidden, targets, weights)
            with meshes.use(mesh, tables):
                compiled, moved = partitioned(jax.jit(jax.grad(loss)).lower(placed, *inputs))
                gradient = compiled(placed, *inputs)
            pairs = list(zip(jax.tree.leaves(gradient), jax.tree.leaves(expected)))
            found[f"{name} {loss.__name__}"] = {
                "moved": moved,
                "dtypes": [str(one.dtype) for one, _ in pairs],
                "gradient": max(float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()) for a, b in pairs),
            }
    return found


def main(scan, names):
    heads = without_cache(head_collectives)
    layers = 2 if scan else 1
    config = llama(VOCAB, WIDTH, layers, 4, 2, tied_embeddings=scan)
    graphdef, state = nnx.split(build(config, 0, execution=Execution(scan, "full" if scan else "none")))
    rng = np.random.default_rng(0)
    tokens, targets = rng.integers(0, VOCAB, (2, BATCH, LENGTH))
    weights = rng.choice([0.0, 1.0, 0.5], size=(BATCH, LENGTH)).astype(np.float32)
    segments = np.sort(rng.integers(1, 4, (BATCH, LENGTH)), axis=1)

    def loss(state, tokens, targets, weights, segments):
        model = nnx.merge(graphdef, state)
        hidden = model(tokens, segment_ids=segments)
        fused = cross_entropy(model.head, hidden, targets, weights, z_loss=1e-3, chunk_size=16)[0]
        parts = token_log_probs(model.head, hidden, targets, chunk_size=16, entropy=True)
        taught = {"frozen_heads": (frozen(model).head,), "frozen_hiddens": (jax.lax.stop_gradient(hidden[:, ::-1]),)}
        f = divergence(VOCAB, "forward_kl", 2.0)
        apart, *_ = chunked(f, (model.head,), (hidden,), (targets,), **taught, chunk_size=16)
        even, _ = chunked_sum(smoothed(VOCAB, 0.1), (model.head,), (hidden,), weights, (targets,), chunk_size=16)
        return fused + even + jnp.sum(weights * (parts.entropy - parts.log_probs + apart))

    arrays = tokens, targets, weights, segments
    expected = jax.jit(jax.value_and_grad(loss))(state, *arrays)
    findings = {}
    for name in names:
        mesh_config = MESHES[name]
        mesh = meshes.make_mesh(mesh_config)
        resolver = meshes.Resolver(mesh, mesh_config.resolved_tables)
        placed = spread(state, resolver)
        inputs = [jax.device_put(a, meshes.batch_sharding(mesh, mesh_config.resolved_tables, 2)) for a in arrays]
        with meshes.use(mesh, mesh_config.resolved_tables):
            compiled = jax.jit(jax.value_and_grad(loss)).lower(placed, *inputs).compile()
            value, gradient = compiled(placed, *inputs)
        differences = [
            float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
            for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected[1]))
        ]
        hlo = compiled.as_text()
        inside, outside = loop_collectives(hlo)
        padded = config.padded_vocab_size
        local_tokens = BATCH * LENGTH // 8
        findings[name] = {
            "value": abs(float(value) - float(expected[0])) / abs(float(expected[0])),
            "gradient": max(differences),
            "inside": max(inside, default=0),
            "outside": max(outside, default=0),
            "table": padded * WIDTH,
            # any array holding the scores of all of a device's tokens, whole or split over tensor=2
            "scores": [
                shape
                for shape in set(shapes(hlo))
                if shape and shape[-1] in (padded, padded // 2) and int(np.prod(shape[:-1])) >= local_tokens
            ],
        }
    findings["losses"] = whole_losses(MESHES["context" if "context" in names else names[0]])
    findings["heads"] = heads
    sys.stdout.write(json.dumps(findings) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] == "scan", sys.argv[2:])
