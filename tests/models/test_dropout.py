"""Dropout: a row's choices are its own, however rows are batched and layers run; without keys nothing changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.models import randomness
from t5x_style.models import specs as parts
from tests.models import execution_checks as checks
from tests.models import stream_checks as streams
from tests.models.conftest import jitted

FEW = parts.DropoutSpec(embedding=0.1, hidden=0.3, final=0.15)
ROWS = checks.BATCH


def decoder(experts=False):
    """Two groups of layers; in the slow tests a pattern of two with experts, and shared weights."""
    layer = checks.layer
    local, wide = layer(window=9), layer(qk_norm=parts.NormSpec())
    groups = parts.LayerGroup((local,), 1), parts.LayerGroup((wide,), 2)
    if experts:
        moe = layer(parts.MoeSpec(2, 1, parts.MlpSpec(16)))
        groups = parts.LayerGroup((local, moe), 2), parts.LayerGroup((wide,), 2, shared=True)
    return checks.stack(parts.DecoderConfig, *groups)


CONFIGS = {
    "decoder": checks.with_dropout(decoder()),
    "experts": checks.with_dropout(decoder(experts=True)),
    "encoder": checks.with_dropout(checks.CONFIGS["bert"]),
    "encoder-decoder": checks.with_dropout(checks.CONFIGS["t5"]),
    "xlnet": checks.with_dropout(streams.CONFIGS["xlnet"]),
    "recurrent": checks.with_dropout(streams.CONFIGS["lstm"], FEW),
}


@functools.cache
def program(name, execution):
    """A drawn state, and (state, keys or None, tokens, sources, segments) -> ((scalar, logits), gradient)."""
    graphdef, state = nnx.split(checks.drawn(CONFIGS[name], 1, execution=execution))
    make = streams.value_and_gradient if name in ("xlnet", "recurrent") else checks.value_and_gradient

    def run(state, keys, *arrays):
        with randomness.rows(keys):
            return make(graphdef)(state, *arrays)

    return state, jax.jit(run)


@functools.cache
def found(name, execution=checks.PLAIN, seed=0, cut=1):
    """(logits, gradient) as NumPy, of the batch in `cut` microbatches; seed None: without keys."""
    state, run = program(name, execution)
    size, results = ROWS // cut, []
    for first in range(0, ROWS, size):
        keys = None if seed is None else checks.keys_of(ROWS, seed)[first : first + size]
        results.append(run(state, keys, *(array[first : first + size] for array in checks.arrays())))
    logits = np.concatenate([result[0][1] for result in results])
    gradients = [[np.asarray(leaf) for leaf in jax.tree.leaves(gradient)] for _, gradient in results]
    return logits, [sum(leaves) for leaves in zip(*gradients, strict=True)]


def check_equal(ours, expected):
    """Sums in another order; a mask that differs in one number shows as 1e-2."""
    logits, gradients = checks.differences(ours, expected)
    assert logits < 2e-5 * np.abs(expected[0]).max()
    assert gradients < 2e-4


def some_slow(*names, fast):
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


@pytest.mark.parametrize(
    "name", some_slow("decoder", "experts", "encoder", "encoder-decoder", "xlnet", fast=("decoder",))
)
def test_scan_and_remat_drop_the_same(name):
    check_equal(found(name, parts.Execution(True, "full")), found(name))


@pytest.mark.slow
@pytest.mark.parametrize("execution", [parts.Execution(False, "full"), parts.Execution(True, "dots")])
def test_every_way_drops_the_same(execution):
    check_equal(found("decoder", execution), found("decoder"))


@pytest.mark.parametrize("name", some_slow("decoder", "recurrent", "encoder", "encoder-decoder", fast=("recurrent",)))
def test_a_row_drops_the_same_in_any_microbatch(name):
    check_equal(found(name, cut=2), found(name))


def test_keys_matter():
    one, other, plain = found("decoder"), found("decoder", seed=1), found("decoder", seed=None)
    for second in (other, plain):
        assert checks.differences(one, second)[0] > 0.1


@jitted
def hidden(model, keys, tokens):
    with randomness.rows(keys):
        return model(tokens)


def test_without_keys_or_rates_it_is_the_model_without_dropout_to_the_bit():
    tokens, bare = checks.arrays()[0], checks.with_dropout(CONFIGS["decoder"], parts.NO_DROPOUT)
    expected = hidden(checks.drawn(bare), None, tokens)
    np.testing.assert_array_equal(hidden(checks.drawn(CONFIGS["decoder"]), None, tokens), expected)
    np.testing.assert_array_equal(hidden(checks.drawn(bare), checks.keys_of(ROWS), tokens), expected)


def dropped(rate, place="attention", number=0, rows=3, width=4000):
    with randomness.rows(checks.keys_of(rows)), randomness.layer(number):
        return np.asarray(randomness.dropout(jnp.full((rows, width), 2.0), rate, place))


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_share_and_the_scale(rate):
    x = dropped(rate)
    assert set(np.unique(x)) == {np.float32(0), np.float32(2.0 / (1 - rate))}
    deviation = (rate * (1 - rate) / x.size) ** 0.5
    assert np.mean(x == 0) == pytest.approx(rate, abs=5 * deviation)
    assert np.all(np.abs(np.mean(x == 0, axis=1) - rate) < 5 * deviation * 3**0.5)


def test_rows_layers_places_and_parts_differ():
    one, *others = dropped(0.5), dropped(0.5, "feed-forward"), dropped(0.5, number=1)
    assert abs(np.mean(one[0] == one[1]) - 0.5) < 0.05
    with randomness.part("encoder"):
        np.testing.assert_array_equal(dropped(0.5), one)  # entered outside `rows`, it has no keys to change
    with randomness.rows(checks.keys_of(3)), randomness.part("encoder"), randomness.layer(0):
        others.append(np.asarray(randomness.dropout(jnp.full((3, 4000), 2.0), 0.5, "attention")))
    for other in others:
        assert abs(np.mean(one == other) - 0.5) < 0.05
    assert len({*randomness.PLACES.values(), *randomness.PARTS.values()}) == len(randomness.PLACES) + len(
        randomness.PARTS
    )


def test_a_traced_layer_number_is_the_same_layer():
    def body(_, number):
        with randomness.rows(checks.keys_of(2)), randomness.layer(number):
            return None, randomness.dropout(jnp.ones((2, 50)), 0.5, "attention")

    scanned = jax.lax.scan(body, None, jnp.arange(3))[1]
    for number in range(3):
        np.testing.assert_array_equal(scanned[number], body(None, number)[1])


def test_a_context_ends_and_none_means_none():
    with randomness.rows(checks.keys_of(2)):
        assert randomness.active(0.1)
        assert not randomness.active(0.0)
        with randomness.rows(None):
            assert not randomness.active(0.1)
        assert randomness.active(0.1)
    assert not randomness.active(0.1)


@pytest.mark.parametrize("name", ["decoder", "encoder", "encoder-decoder"])
def test_blockwise_attention_cannot_drop_weights(name):
    with pytest.raises(UserError, match=r"'blockwise', which cannot drop .* 0\.25\); choose auto or xla") as caught:
        models.abstract(CONFIGS[name], execution=parts.Execution(attention="blockwise"))
    assert "\n" not in str(caught.value)
    others = checks.with_dropout(CONFIGS[name], dataclasses.replace(checks.RATES, attention=0.0))
    models.abstract(others, execution=parts.Execution(attention="blockwise"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: parts.DropoutSpec(residual=1.0), "DropoutSpec.residual is 1.0; give at least 0 and less than 1"),
        (lambda: checks.with_dropout(streams.CONFIGS["lstm"]), "neither residual nor attention"),
        (
            lambda: dataclasses.replace(checks.CONFIGS["t5"], encoder=CONFIGS["encoder-decoder"].encoder),
            "encoder.dropout.embedding is 0.1, the decoder's is 0.0",
        ),
    ],
)
def test_bad_rates(build, message):
    with pytest.raises(UserError, match=message):
        build()
