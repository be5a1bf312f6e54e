"""The decoder: execution choices change nothing, packed documents never leak, options have their effect."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.models import DtypePolicy, abstract, build, flops_per_token, parameter_count
from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from tests import built
from tests.models.execution_checks import drawn

SHORT = (1, 20)  # of every test that runs outside jit: its kernels are compiled once for all


def tokens_of(config, shape=(2, 70), seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, config.vocab_size, shape))


def one_layer(make_config, **changes):
    layers = make_config(**changes).layers[:1]
    return make_config(**changes, segments=(parts.LayerGroup(layers, 1),))


@jax.jit
def hidden_of(model, tokens, **inputs):
    return model(tokens, **inputs)


@functools.cache
def logits_and_gradient(config, execution):
    """Of packed documents, as NumPy arrays."""
    state = nnx.state(built.shared(config, 3))
    graphdef = nnx.graphdef(abstract(config, execution=execution))
    tokens = tokens_of(config, (2, 40))
    inputs = {"segment_ids": jnp.asarray(np.repeat([[1] * 20 + [2] * 15 + [0] * 5], 2, axis=0))}

    def loss(state):
        model = nnx.merge(graphdef, state)
        logits = model.head.logits(model(tokens, **inputs))[..., : model.config.vocab_size]
        return jnp.sum(jnp.sin(logits)), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(state)
    return np.asarray(logits), [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]


FAST_WAYS = {(True, "dots"), (False, "full")}


def mixed_config(make_config):
    """A pattern of a local and a global layer, then a segment with shared weights."""
    local = make_config(attention={"window": 9}).layers[0]
    wide = make_config(attention={"rope": parts.RopeSpec(1000.0), "qk_norm": parts.NormSpec()}).layers[0]
    segments = (
        parts.LayerGroup((local, wide), 2),
        parts.LayerGroup((wide,), 2, shared=True),
        parts.LayerGroup((local,), 1),
    )
    return make_config(segments=segments)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [
        pytest.param(scan, remat, id=f"{scan}-{remat}", marks=() if (scan, remat) in FAST_WAYS else pytest.mark.slow)
        for scan in (True, False)
        for remat in ("none", "full", "dots")
        if scan or remat != "none"  # that one is what the others are compared with
    ],
)
def test_scan_and_remat_change_nothing(make_config, scan, remat):
    config = mixed_config(make_config)
    expected = logits_and_gradient(config, parts.Execution(scan=False, remat="none"))
    ours = logits_and_gradient(config, parts.Execution(scan, remat))
    np.testing.assert_allclose(ours[0], expected[0], atol=2e-5)
    for a, b in zip(ours[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, atol=5e-4, rtol=1e-4)


# Gradients and `make test`'s share of these: test_packing_exact.py.
@pytest.mark.slow
@pytest.mark.parametrize("attention", [{}, {"window": 6}, {"kv_heads": 4}, {"kv_heads": 1}, {"causal": False}])
@pytest.mark.parametrize("prefix", [False, True])
def test_packed_documents_do_not_leak_to_the_bit(make_config, attention, prefix):
    model = drawn(make_config(attention=attention), 0)
    segments = jnp.asarray([[1] * 30 + [2] * 33 + [0] * 7])
    positions = jnp.asarray([[*range(30), *range(33), *range(7)]])
    inputs = {"segment_ids": segments, "positions": positions}
    if prefix:
        inputs["causal_attention"] = jnp.asarray([[1] * 10 + [0] * 20 + [1] * 20 + [0] * 20])
    first = tokens_of(model.config, (1, 70))

    def run(tokens):
        return hidden_of(model, tokens, **inputs)

    for start, stop in ((0, 30), (30, 63), (63, 70)):
        changed = first.at[:, start:stop].set((first[:, start:stop] + 7) % 61)
        a, b = np.array(run(first)), np.array(run(changed))
        others = np.ones(70, bool)
        others[start:stop] = False
        np.testing.assert_array_equal(a[:, others], b[:, others])
        assert np.all(np.any(a[:, ~others] != b[:, ~others], axis=-1))


def test_a_packed_document_equals_the_document_alone(make_config):
    model = drawn(make_config(), 0)
    tokens = tokens_of(model.config, (1, 70))
    segments = jnp.asarray([[1] * 30 + [2] * 33 + [0] * 7])
    positions = jnp.asarray([[*range(30), *range(33), *range(7)]])
    packed = np.asarray(hidden_of(model, tokens, segment_ids=segments, positions=positions))
    np.testing.assert_allclose(packed[:, 30:63], hidden_of(model, np.asarray(tokens)[:, 30:63]), atol=1e-5)


def test_future_tokens_are_invisible_and_prefixes_see_ahead(make_config):
    model = drawn(make_config(), 0)
    tokens = np.asarray(tokens_of(model.config, SHORT))
    prefix = jnp.asarray([[1] * 10 + [0] * 10])

    def run(position=None, **inputs):
        changed = tokens + (np.arange(20) == position)
        return np.asarray(hidden_of(model, changed % 61, **inputs))

    np.testing.assert_array_equal(run()[:, :9], run(9)[:, :9])
    plain = run(causal_attention=prefix)
    assert np.all(np.any(plain != run(9, causal_attention=prefix), axis=-1))  # 9 is in the prefix: all see it
    np.testing.assert_array_equal(plain[:, :15], run(15, causal_attention=prefix)[:, :15])


def logits_of(model):
    """[1, 20, ids], outside jit: most of a variant's kernels are those of the others."""
    return np.asarray(model.head.logits(model(tokens_of(model.config, SHORT))))


def by_name(**options):
    return options


@pytest.mark.parametrize(
    "change",
    [
        by_name(placement="post"),
        by_name(placement="sandwich"),
        by_name(norm=parts.NormSpec("layernorm")),
        by_name(norm=parts.NormSpec(epsilon=0.1)),
        by_name(mlp=parts.MlpSpec(48, gated=False)),
        by_name(mlp=parts.MlpSpec(48, activation="relu")),
        by_name(mlp=parts.MlpSpec(48, activation="gelu")),
        by_name(attention={"rope": None}),
        by_name(attention={"rope": parts.RopeSpec(100.0)}),
        by_name(attention={"rope": parts.RopeSpec(scaling=parts.RopeScaling("linear", 2.0))}),
        by_name(attention={"window": 3}),
        by_name(attention={"causal": False}),
        by_name(attention={"scale": 0.1}),
        by_name(attention={"logit_softcap": 0.5}),
        by_name(attention={"qk_norm": parts.NormSpec()}),
        by_name(final_norm=None),
        by_name(embedding_scale=3.0),
        by_name(tied_embeddings=True),
        by_name(init=parts.InitSpec(stddev=0.3)),
        by_name(init=parts.InitSpec(depth_scaled=False)),
        by_name(head=parts.HeadSpec(scale=0.5)),
        by_name(head=parts.HeadSpec(softcap=0.5)),
    ],
    ids=str,
)
def test_every_option_changes_the_logits(make_config, change):
    draw = built.build if "init" in change else drawn  # whose weights do not depend on how they should be drawn
    a, b = (logits_of(draw(one_layer(make_config, **options), 0)) for options in ({}, change))
    assert np.isfinite(b).all()
    assert not np.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "extra"),
    [
        (by_name(attention={"qkv_bias": True}), 3 * (32 + 16 + 16)),
        (by_name(attention={"output_bias": True}), 3 * 32),
        (by_name(mlp=parts.MlpSpec(48, bias=True)), 3 * (48 + 48 + 32)),
        (by_name(head=parts.HeadSpec(bias=True)), 64),
    ],
    ids=str,
)
def test_biases_are_parameters_that_act(make_config, change, extra):
    config = make_config(**change)
    assert parameter_count(config) - parameter_count(make_config()) == extra
    model = drawn(one_layer(make_config, **change), 0)
    before = logits_of(model)
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        if "bias" in str(path[-1]):
            leaf.set_value(jnp.asarray(np.asarray(leaf.get_value()) + np.arange(leaf.shape[-1], dtype=np.float32)))
    nnx.update(model, nnx.state(model))
    assert not np.allclose(before, logits_of(model), atol=1e-3)


def test_layout_is_stacked_whatever_runs(make_config):
    ways = [parts.Execution(scan) for scan in (True, False)]
    leaves = [jax.tree.leaves(nnx.state(build(make_config(), 0, execution=execution))) for execution in ways]
    for scanned, unrolled in zip(*leaves, strict=True):
        np.testing.assert_array_equal(scanned, unrolled)
    flat = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(abstract(make_config())))}
    kernel = flat["trunk/segments/0/layers/0/attention/key/kernel"]
    assert kernel.shape == (3, 32, 2, 8)
    assert kernel.get_metadata()["out_sharding"] == ("layers", "embed", "kv_heads", "head_dim")
    shared = abstract(make_config(segments=(parts.LayerGroup((make_config().layers[0],), 3, shared=True),)))
    assert nnx.state(shared)["trunk"]["segments"][0]["layers"][0]["attention"]["key"]["kernel"].shape == (32, 2, 8)


def test_same_seed_same_weights_and_layers_differ(make_config):
    a, b, c = (jax.tree.leaves(nnx.state(build(make_config(), seed))) for seed in (5, 5, 6))
    assert all(np.array_equal(x, y) for x, y in zip(a, b))
    assert not all(np.array_equal(x, y) for x, y in zip(a, c))
    kernel = np.asarray(build(make_config(), 5).trunk.segments[0].layers[0].mlp.up.kernel[...])
    assert not np.allclose(kernel[0], kernel[1])


def test_initial_deviations(make_config):
    config = llama(1000, 256, 8, 4, tied_embeddings=True)
    mlp = built.shared(config).trunk.segments[0].layers[0].mlp
    assert np.std(np.asarray(mlp.up.kernel[...])) == pytest.approx(256**-0.5, rel=0.02)
    hidden = config.layers[0].mlp.hidden
    assert np.std(np.asarray(mlp.down.kernel[...])) == pytest.approx(hidden**-0.5 / 4, rel=0.02)  # sqrt(2 * 8)


def test_bfloat16_compute_keeps_float32_parameters_and_logits(make_config):
    config = make_config()
    model, exact = built.build(config, 0, DtypePolicy(compute="bfloat16")), built.build(config, 0)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))

    @jax.jit
    def run(model, exact, tokens):
        hidden = model(tokens)
        return hidden, model.head.logits(hidden), exact.head.logits(exact(tokens))

    hidden, logits, expected = run(model, exact, tokens_of(config, SHORT))
    assert hidden.dtype == jnp.bfloat16
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected, atol=0.15)


def test_an_id_beyond_the_table_is_not_silent(make_config):
    tokens = np.asarray(tokens_of(make_config(), SHORT)).copy()
    tokens[0, -1] = 64
    assert np.isnan(np.asarray(drawn(one_layer(make_config))(jnp.asarray(tokens)))).any()


def test_published_sizes():
    seven = llama(32000, 4096, 32, 32, mlp_hidden=11008)
    assert parameter_count(seven) == 6_738_415_616
    eight = llama(128256, 4096, 32, 32, 8, 14336, rope_base=500000.0)
    assert parameter_count(eight) == 8_030_261_248
    # 6 * (parameters without the input table and the norms) + 12 * layers * width * length
    matrices = 6_738_415_616 - 32000 * 4096 - 65 * 4096
    assert flops_per_token(seven, 2048) == 6 * matrices + 12 * 32 * 4096 * 2048
