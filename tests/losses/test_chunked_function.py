"""A function of scores over chunks equals the same over [B, L, V], and leaves no such array in the compiled program."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.losses.chunked_function import chunked, chunked_sum
from t5x_style.models.layers.embedding import Head
from t5x_style.models.specs import FLOAT32, HeadSpec

pytestmark = pytest.mark.usefixtures("quick_to_compile")
BATCH, LENGTH, VOCAB = 3, 7, 50


@functools.cache
def head(width, padded):
    random = np.random.default_rng(width)
    table = nnx.Param(random.normal(size=(padded, width)).astype(np.float32))
    bias = nnx.Param(random.normal(size=padded).astype(np.float32))
    return nnx.split(Head(HeadSpec(bias=True), table=table, bias=bias, vocab_size=VOCAB, policy=FLOAT32))


def arrays():
    random = np.random.default_rng(0)
    hiddens = [random.normal(size=(BATCH, LENGTH, width)).astype(np.float32) for width in (12, 8, 20)]
    return hiddens, random.integers(0, VOCAB, (BATCH, LENGTH)), random.normal(size=(2, BATCH, LENGTH))


def value(scores, frozen_scores, targets):
    """Something of two trained heads and a frozen one that depends on all scores of each."""
    p, q, r = (jax.nn.softmax(each[..., :VOCAB], axis=-1) for each in (*scores, *frozen_scores))
    mixed = jnp.sum(p * jnp.log(q + 0.1) + jnp.sqrt(r + 0.1) * p, axis=-1)
    return {"mixed": mixed, "chosen": jnp.take_along_axis(q * r, targets[..., None], axis=-1)[..., 0]}


def program(chunk_size):
    """(states, hiddens, targets, cotangents) -> gradients and values; chunk_size None: the naive version."""
    graphs = [head(12, 64)[0], head(8, 56)[0], head(20, 64)[0]]

    def total(states, hiddens, targets, cotangents):
        one, two, frozen = map(nnx.merge, graphs, states)
        if chunk_size is None:
            frozen_scores = jax.lax.stop_gradient(frozen.logits(hiddens[2]))
            found = value((one.logits(hiddens[0]), two.logits(hiddens[1])), (frozen_scores,), targets)
        else:
            settings = {"frozen_heads": (frozen,), "frozen_hiddens": hiddens[2:], "chunk_size": chunk_size}
            found = chunked(value, (one, two), hiddens[:2], (targets,), **settings)
        return jnp.sum(cotangents[0] * found["mixed"]) + jnp.sum(cotangents[1] * found["chosen"]), found

    return jax.jit(jax.grad(total, (0, 1), has_aux=True))


@functools.cache
def inputs():
    return [head(12, 64)[1], head(8, 56)[1], head(20, 64)[1]], *arrays()


@functools.cache
def naive():
    return program(None)(*inputs())


@pytest.mark.parametrize("chunk_size", [4, pytest.param(1, marks=pytest.mark.slow), 1000])
def test_equals_the_naive_version(chunk_size):
    (states, hiddens), found = program(chunk_size)(*inputs())
    (naive_states, naive_hiddens), expected = naive()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-6)
    for one, other in zip(jax.tree.leaves((states, hiddens)), jax.tree.leaves((naive_states, naive_hiddens))):
        np.testing.assert_allclose(one, other, atol=2e-5)
    # what is frozen gets no gradient at all
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((states[2], hiddens[2])))
    assert all(np.any(leaf) for leaf in jax.tree.leaves((states[:2], hiddens[:2])))


def summed(chunk_size):
    """(states, hiddens, targets, weights) -> gradients and what is reported, of the sum of "mixed"."""
    graphs = [head(12, 64)[0], head(8, 56)[0], head(20, 64)[0]]

    def f(*inputs):
        found = value(*inputs)
        return found.pop("mixed"), found

    def total(states, hiddens, targets, weights):
        one, two, frozen = map(nnx.merge, graphs, states)
        if chunk_size is None:
            frozen_scores = jax.lax.stop_gradient(frozen.logits(hiddens[2]))
            found = value((one.logits(hiddens[0]), two.logits(hiddens[1])), (frozen_scores,), targets)
            loss, rest = jnp.sum(weights * found["mixed"]), {"chosen": jnp.sum(weights * found["chosen"])}
        else:
            settings = {"frozen_heads": (frozen,), "frozen_hiddens": hiddens[2:], "chunk_size": chunk_size}
            loss, rest = chunked_sum(f, (one, two), hiddens[:2], weights, (targets,), **settings)
        return 3 * loss, (loss, rest)

    return jax.jit(lambda *a: (jax.grad(total, (0, 1), has_aux=True)(*a), total(*a)[1]))


@functools.cache
def naive_sum():
    return summed(None)(*inputs()[:3], inputs()[3][0])


@pytest.mark.parametrize("chunk_size", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_sum_equals_the_naive_version_with_and_without_a_gradient(chunk_size):
    ((states, hiddens), sums), plain = summed(chunk_size)(*inputs()[:3], inputs()[3][0])
    ((naive_states, naive_hiddens), expected), _ = naive_sum()
    for found in (sums, plain):
        assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
        assert float(found[1]["chosen"]) == pytest.approx(float(expected[1]["chosen"]), rel=1e-4)
    for one, other in zip(
        jax.tree.leaves((states[:2], hiddens[:2])), jax.tree.leaves((naive_states[:2], naive_hiddens[:2]))
    ):
        np.testing.assert_allclose(one, other, atol=5e-5)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((states[2], hiddens[2])))


def matrix_products(function, *arguments):
    """Matrix products of the traced program, those of loops counted once."""
    return len(re.findall(r"= dot_general", str(jax.make_jaxpr(function)(*arguments))))


def test_a_frozen_head_costs_its_scores_only():
    def loss(states, hiddens, frozen):
        one, other = nnx.merge(head(12, 64)[0], states[0]), nnx.merge(head(20, 64)[0], states[1])
        both = {"heads": (one,), "hiddens": hiddens[:1], "frozen_heads": (other,), "frozen_hiddens": hiddens[1:]}
        if not frozen:
            both = {"heads": (one, other), "hiddens": hiddens}
        f = lambda scores, frozen_scores: (scores + frozen_scores)[0][:, 0] * (scores + frozen_scores)[1][:, 0]  # noqa: E731
        return jnp.sum(chunked(f, **both, chunk_size=4))

    states, hiddens = [head(12, 64)[1], head(20, 64)[1]], [arrays()[0][0], arrays()[0][2]]
    counts = [
        matrix_products(jax.grad(functools.partial(loss, frozen=frozen), (0, 1)), states, hiddens)
        for frozen in (True, False)
    ]
    assert counts == [6, 8]  # scores twice each (forward, recomputed), two products of a gradient a trained head


def test_scores_of_all_tokens_never_exist():
    def shapes(text):
        return [tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)]

    def whole(chunk_size):
        text = program(chunk_size).lower(*inputs()).compile().as_text()
        return [s for s in shapes(text) if s[-1] in (50, 56, 64) and np.prod(s[:-1]) >= BATCH * LENGTH]

    assert whole(4) == []
    assert whole(None)  # the reading of the HLO finds them where they are
