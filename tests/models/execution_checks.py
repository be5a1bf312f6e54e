"""How models run changes nothing: the configurations and the comparison; on 8 devices as a program of its own.

As a program it prints one JSON line: the largest differences of values and gradients by model and way to run, all on 8
virtual devices, from one device with unrolled layers and nothing recomputed (see test_execution.py).
"""

import dataclasses
import functools
import json
import os
import sys
import zlib

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # see quick_to_compile in tests/conftest.py
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style import mesh as meshes
from t5x_style.models import abstract, randomness
from t5x_style.models import specs as parts
from t5x_style.models.specs import FLOAT32

BATCH, LENGTH, VOCAB, WIDTH = 4, 24, 60, 16
WAYS = [parts.Execution(scan, remat) for scan in (False, True) for remat in ("none", "dots", "full")]
PLAIN, AT_ONCE = WAYS[0], parts.Execution(True, "full", attention="xla")
# Those that run on 8 devices, where each compiles for long; on one device all ways are compared with each other.
SPREAD = [PLAIN, AT_ONCE]


def layer(mlp=None, cross=False, norm=None, placement="pre", **attention):
    settings = {"heads": 4, "kv_heads": 2, "head_dim": 8, **attention}
    crossing = parts.AttentionSpec(4, 4, 8, causal=False, rope=None) if cross else None
    return parts.LayerSpec(
        parts.AttentionSpec(**settings), mlp or parts.MlpSpec(32), norm or parts.NormSpec(), placement, crossing
    )


def stack(kind, *segments, **changes):
    shared = {"vocab_size": VOCAB, "embed_dim": WIDTH, "vocab_multiple": 8, "init": parts.InitSpec(0.3)}
    return kind(segments=tuple(segments), **{**shared, **changes})


def t5():
    def bias(both):
        return parts.RelativeBiasSpec(8, 20, bidirectional=both)

    one, other = layer(rope=None, causal=False), layer(rope=None, cross=True)
    return parts.EncoderDecoderConfig(
        stack(parts.EncoderConfig, parts.LayerGroup((one,), 2), relative_bias=bias(True)),
        stack(parts.TransformerConfig, parts.LayerGroup((other,), 2), relative_bias=bias(False), tied_embeddings=True),
    )


def bert():
    norm = parts.NormSpec("layernorm")
    block = layer(
        parts.MlpSpec(32, "gelu", gated=False, bias=True), False, norm, "post", causal=False, rope=None, qkv_bias=True
    )
    return stack(
        parts.EncoderConfig,
        parts.LayerGroup((block,), 3),
        final_norm=None,
        tied_embeddings=True,
        head=parts.HeadSpec(bias=True, transform="gelu", transform_norm=norm),
        embedding=parts.EmbeddingSpec(types=2, positions=parts.PositionSpec("learned", LENGTH), norm=norm),
    )


def gemma():
    norm = parts.NormSpec(scale_offset=1.0)
    local, wide = (
        layer(norm=norm, placement="sandwich", qk_norm=norm, **attention)
        for attention in ({"window": 5}, {"rope": parts.RopeSpec(1e6)})
    )
    first, rest = parts.LayerGroup((local, local, wide), 2), parts.LayerGroup((local,), 1)
    return stack(parts.DecoderConfig, first, rest, embedding_scale=4.0, tied_embeddings=True)


CONFIGS = {
    "llama": stack(parts.DecoderConfig, parts.LayerGroup((layer(),), 3)),
    "gemma": gemma(),
    "t5": t5(),
    "bert": bert(),
    "mixtral": stack(parts.DecoderConfig, parts.LayerGroup((layer(parts.MoeSpec(4, 2, parts.MlpSpec(16))),), 2)),
}


RATES = parts.DropoutSpec(embedding=0.1, residual=0.2, hidden=0.3, attention=0.25, final=0.15)


def with_dropout(config, rates=RATES):
    """The same model with dropout, in both halves of an encoder-decoder."""
    if isinstance(config, parts.EncoderDecoderConfig):
        halves = (dataclasses.replace(half, dropout=rates) for half in (config.encoder, config.decoder))
        return parts.EncoderDecoderConfig(*halves)
    return dataclasses.replace(config, dropout=rates)


def keys_of(rows, seed=0):
    """[rows] keys, one a row of the batch."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(rows))


def drawn(config, seed=0, policy=FLOAT32, deviation=0.3, execution=parts.DEFAULT_EXECUTION):
    """`models.build` with other weights, drawn by NumPy: nothing is compiled, however the model runs.

    A leaf's numbers follow from its path and shape, so that two models share what both have; scales lie around 1.
    """
    model = abstract(config, policy, execution)
    graphdef, state = nnx.split(model)
    flat = nnx.to_flat_state(state)
    leaves = []
    for path, leaf in flat:
        random = np.random.default_rng([seed, zlib.crc32("/".join(map(str, path)).encode())])
        values = deviation * random.standard_normal(leaf.shape) + (path[-1] == "scale")
        leaves.append((path, leaf.replace(jnp.asarray(values.astype(leaf.dtype)))))
    return nnx.merge(graphdef, nnx.from_flat_state(leaves))


def arrays():
    """Tokens, encoder tokens, and their documents, the last places padding in some rows; each [BATCH, LENGTH]."""
    random = np.random.default_rng(0)
    tokens, sources = random.integers(0, VOCAB, (2, BATCH, LENGTH))
    segments = np.repeat([[1] * 9 + [2] * 12 + [0] * 3], BATCH, axis=0)
    segments[1] = 1
    return [tokens, sources, segments]


def value_and_gradient(graphdef):
    """(state, tokens, sources, segments) -> ((scalar, logits), gradient)."""

    def loss(state, tokens, sources, segments):
        model = nnx.merge(graphdef, state)
        settings = {"segment_ids": segments, "return_losses": True}
        if hasattr(model, "encoder_trunk"):
            hidden, losses = model(tokens, sources, encoder_segment_ids=segments, **settings)
        else:
            hidden, losses = model(tokens, **settings)
        logits = model.head.logits(hidden)[..., :VOCAB]
        weights = (segments != 0)[..., None]
        return jnp.sum(jnp.sin(logits) * weights) + sum(map(jnp.sum, losses.values())), logits * weights

    return jax.value_and_grad(loss, has_aux=True)


def dropping(graphdef):
    """value_and_gradient with a key for each row."""

    def run(*arrays):
        with randomness.rows(keys_of(BATCH)):
            return value_and_gradient(graphdef)(*arrays)

    return run


@functools.cache
def _compiled(make, graphdef):
    return jax.jit(make(graphdef))


def result(config, execution=PLAIN, mesh_config=None, make=value_and_gradient, change=lambda state: state):
    """(logits, gradients by leaf), on one device or on a mesh; `make` gives the function of a graph."""
    graphdef, state = nnx.split(drawn(config, 1, execution=execution))
    state, inputs = change(state), arrays()
    if mesh_config is None:
        (_, logits), gradient = _compiled(make, graphdef)(state, *inputs)
        return np.asarray(logits), [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    mesh = meshes.make_mesh(mesh_config)
    resolver = meshes.Resolver(mesh, mesh_config.resolved_tables)

    def place(leaf):
        axes = leaf.get_metadata()["out_sharding"]
        return leaf.replace(jax.device_put(leaf[...], resolver.sharding(leaf.shape, axes, "parameters")))

    placed = jax.tree.map(place, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    split = sum(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(placed))
    assert split > len(jax.tree.leaves(placed)) / 3, "hardly a parameter is split: this would compare nothing"
    inputs = [jax.device_put(array, meshes.batch_sharding(mesh, mesh_config.resolved_tables, 2)) for array in inputs]
    with meshes.use(mesh, mesh_config.resolved_tables):
        (_, logits), gradient = jax.jit(make(graphdef))(placed, *inputs)
    return np.asarray(logits), [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]


def differences(found, expected):
    """(largest of the logits, largest of a gradient relative to its largest entry)."""
    largest = max(float(np.abs(leaf).max()) for leaf in expected[1])
    relative = [
        float(np.abs(one - other).max()) / max(float(np.abs(other).max()), 1e-3 * largest)
        for one, other in zip(found[1], expected[1], strict=True)
    ]
    return float(np.abs(found[0] - expected[0]).max()), max(relative)


def main():
    mesh_config = meshes.MeshConfig(data=1, fsdp=2, tensor=2, expert=2)
    findings = {}
    for name, config in CONFIGS.items():
        expected = result(config)
        for execution in SPREAD:
            findings[f"{name}, {execution}"] = differences(result(config, execution, mesh_config), expected)
    config = with_dropout(CONFIGS["llama"])
    dropped = result(config, parts.DEFAULT_EXECUTION, mesh_config, dropping)
    findings["llama, dropout"] = differences(dropped, result(config, make=dropping))
    sys.stdout.write(json.dumps(findings) + "\n")


if __name__ == "__main__":
    main()
