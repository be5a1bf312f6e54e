"""Cached decoding equals the full forward pass; sampling keeps its promises; scores equal log-softmax."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.decoding import Sampling, generate, prepare, score
from t5x_style.decoding import cache as kv
from t5x_style.decoding.buckets import bucket, left_padded
from t5x_style.decoding.generate import _continue
from t5x_style.decoding.sampling import restrict, sample
from t5x_style.errors import UserError
from t5x_style.models import DtypePolicy
from t5x_style.models.presets.llama import llama
from t5x_style.models.specs import DecoderConfig, LayerGroup
from tests.built import build, shared

# All of one bucket, so that one program serves them in any company.
PROMPTS = [[5, 6, 7, 8, 9], [3], list(range(10, 24)), [40, 41]]


def tiny(**changes) -> DecoderConfig:
    return llama(50, 32, 2, 4, 2, vocab_multiple=64, **changes)


def windowed() -> DecoderConfig:
    config = tiny()
    layer = config.layers[0]
    local = dataclasses.replace(layer, attention=dataclasses.replace(layer.attention, window=4))
    return dataclasses.replace(config, segments=(LayerGroup((local, layer), 2), LayerGroup((layer,), 2, shared=True)))


@pytest.fixture(scope="module", params=[pytest.param(tiny, marks=pytest.mark.slow), windowed])
def model(request):
    return build(request.param(), 1)


@functools.partial(jax.jit, static_argnames="graphdef")
def _forward(graphdef, state, tokens, prefix):
    model = nnx.merge(graphdef, state)
    hidden = model(tokens, causal_attention=prefix)
    return hidden, jax.nn.log_softmax(model.head.logits(hidden)[..., :50], axis=-1)


def forward(model, rows, prefix=0):
    """(hidden states, log-probabilities) of up to four rows without a cache, the first `prefix` tokens bidirectional.

    Padding on the right is invisible to a causal model.
    """
    tokens = np.zeros((4, 32), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    seen = np.broadcast_to(np.arange(32) < prefix, tokens.shape).astype(np.int32)
    return [np.asarray(array) for array in _forward(*nnx.split(model), tokens, seen)]


@functools.partial(jax.jit, static_argnames="graphdef")
def step(graphdef, state, tokens, cache, prefix=None):
    extra = {} if prefix is None else {"causal_attention": prefix}
    return nnx.merge(graphdef, state)(tokens, cache=cache, **extra)


def some_tokens():
    return np.random.default_rng(0).integers(0, 50, (2, 13))


def test_cached_steps_equal_the_full_forward(model):
    tokens = some_tokens()
    full = forward(model, tokens)[0][:2, :13]
    for form in (model, prepare(model)):
        cache = kv.empty(form.config, form.policy, 2, 16)
        pieces = []
        for start, stop in ((0, 6), (6, 7), (7, 13)):
            hidden, cache = step(*nnx.split(form), tokens[:, start:stop], cache)
            pieces.append(np.asarray(hidden))
        np.testing.assert_allclose(np.concatenate(pieces, axis=1), full, atol=1e-5)
        assert int(cache.index) == 13
        assert cache.segment_ids.tolist() == [[1] * 13 + [0] * 3] * 2


def test_bidirectional_prefix_in_the_cache(model):
    tokens = some_tokens()[:, :12]
    full = forward(model, tokens, prefix=6)[0][:2, :12]
    assert np.abs(full - forward(model, tokens)[0][:2, :12]).max() > 1e-3  # or there would be nothing to see
    cache = kv.empty(model.config, model.policy, 2, 16)
    first, cache = step(*nnx.split(model), tokens[:, :6], cache, np.ones((2, 6), np.int32))
    second, _ = step(*nnx.split(model), tokens[:, 6:], cache)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), full, atol=1e-5)


def test_prepare_is_idempotent_and_changes_nothing(model):
    prepared = prepare(model)
    assert prepare(prepared) is prepared
    tokens = [[1, 2, 3, 4]]
    np.testing.assert_allclose(forward(prepared, tokens)[0][0, :4], forward(model, tokens)[0][0, :4], atol=1e-5)


def test_prepare_casts_matrices_and_leaves_norms():
    prepared = prepare(shared(tiny(), 0, DtypePolicy(compute="bfloat16")))
    block = next(prepared.trunk.segments[0].blocks())
    assert block.mlp.up.kernel.dtype == jnp.bfloat16
    assert prepared.embedding.table.dtype == jnp.bfloat16
    assert block.mlp_norm.scale.dtype == jnp.float32


def greedy(model, prompts, steps):
    """The argmax of a full forward pass a token."""
    rows = [list(prompt) for prompt in prompts]
    for _ in range(steps):
        log_p = forward(model, rows)[1]
        for row, values in zip(rows, log_p):
            row.append(int(values[len(row) - 1].argmax()))
    return [row[len(prompt) :] for row, prompt in zip(rows, prompts)]


def test_greedy_batch_of_unequal_prompts_equals_one_by_one(model):
    expected = greedy(model, PROMPTS, 10)
    assert generate(model, PROMPTS, 10) == expected
    assert generate(prepare(model), PROMPTS, 10, batch_size=3) == expected
    assert [generate(model, [prompt], 10)[0] for prompt in PROMPTS] == expected


def test_generation_stops_at_eos_without_it(model):
    free = generate(model, PROMPTS, 10)
    eos = free[0][3]
    for row, stopped in zip(free, generate(model, PROMPTS, 10, eos_id=eos)):
        assert stopped == (row[: row.index(eos)] if eos in row else row)


def test_padded_ids_are_never_drawn(model):  # 50 ids in a table of 64
    hot = Sampling(temperature=50.0)
    drawn = [row for seed in range(10) for row in generate(model, PROMPTS, 16, sampling=hot, seed=seed)]
    assert max(max(row) for row in drawn) < 50
    assert all(len(row) == 16 for row in drawn)


def test_seeds_reproduce_and_do_not_depend_on_the_batch(model):
    sampling = Sampling(temperature=1.0, top_k=30, top_p=0.95)
    first = generate(model, PROMPTS, 12, sampling=sampling, seed=3)
    assert first == generate(model, PROMPTS, 12, sampling=sampling, seed=3)
    assert first != generate(model, PROMPTS, 12, sampling=sampling, seed=4)
    together = generate(model, PROMPTS, 12, sampling=sampling, row_seeds=[1, 2, 3, 4])
    alone = [generate(model, [p], 12, sampling=sampling, row_seeds=[s])[0] for p, s in zip(PROMPTS, [1, 2, 3, 4])]
    assert together == alone


def test_one_compile_a_bucket(model):
    prepared = prepare(model)
    generate(prepared, [[1, 2, 3]], 5)
    before = _continue._cache_size()
    for prompt, room in (([1] * 9, 5), ([2] * 16, 16), ([3], 1)):
        generate(prepared, [prompt], room)
    assert _continue._cache_size() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[]], 3), "prompt 0 is empty"),
        (([[1], [50]], 3), "prompt 1 holds id 50"),
        (([[-1]], 3), "id -1"),
        (([[1]], 0), "max_new_tokens is 0"),
    ],
)
def test_bad_prompts(model, arguments, message):
    with pytest.raises(UserError, match=message):
        generate(model, *arguments)


def test_no_prompts_no_results(model):
    assert generate(model, [], 5) == []
    assert score(model, [], []).log_probs.shape == (0,)


@pytest.mark.parametrize("values", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_bad_sampling(values):
    with pytest.raises(UserError, match=f"Sampling.{next(iter(values))}"):
        Sampling(**values)


def test_restrict_by_hand():
    logits = np.log(np.asarray([[0.2, 0.5, 0.3]], np.float32))
    sets = [{"top_k": 1}, {"top_k": 9}, {"top_p": 0.4}, {"top_p": 0.6}, {"top_p": 1.0}]
    rules = [*(Sampling(1.0, **options) for options in sets), Sampling(2.0)]
    *restricted, halved = jax.jit(lambda logits: [restrict(logits, rule) for rule in rules])(logits)
    assert np.isfinite(restricted)[:, 0].tolist() == [
        [False, True, False],
        [True, True, True],
        [False, True, False],
        [False, True, True],
        [True, True, True],
    ]
    np.testing.assert_allclose(halved, logits / 2, rtol=1e-6)


def test_sampled_frequencies():
    p = np.asarray([0.1, 0.6, 0.3], np.float32)
    rows = np.broadcast_to(np.log(p), (4000, 3))
    draw = jax.jit(sample, static_argnames="sampling")
    drawn = draw(rows, np.arange(4000, dtype=np.uint32), np.int32(2), sampling=Sampling(1.0))
    frequencies = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(frequencies, p, atol=4 * 0.5 / 4000**0.5)  # four standard errors


def test_scores_equal_log_softmax(model):
    targets = [[8, 9], [], list(range(20, 30)), [1]]
    result = score(model, PROMPTS, targets, batch_size=3)
    assert result.tokens.tolist() == [2, 0, 10, 1]
    log_p = forward(model, [prompt + target for prompt, target in zip(PROMPTS, targets)])[1]
    for prompt, target, got, values in zip(PROMPTS, targets, result.log_probs, log_p):
        expected = sum(float(values[len(prompt) - 1 + i, token]) for i, token in enumerate(target))
        assert got == pytest.approx(expected, abs=1e-4)


def test_scores_of_a_prefix_model_see_the_whole_input(model):
    targets = [[1], [1], list(range(20, 30)), [1]]  # shapes as above
    causal = score(model, PROMPTS, targets, batch_size=3).log_probs
    both = score(model, PROMPTS, targets, batch_size=4, bidirectional_inputs=True).log_probs
    assert causal[1] == pytest.approx(both[1], abs=1e-5)  # an input of one token
    assert abs(causal[0] - both[0]) > 1e-4


def test_score_refuses_unequal_lists(model):
    with pytest.raises(UserError, match="1 inputs and 2 targets"):
        score(model, [[1]], [[1], [2]])


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=20), min_size=1, max_size=5))
def test_left_padding(rows):
    length = bucket(max(map(len, rows)), 16)
    tokens, segments, positions = left_padded(rows, bucket(len(rows)), length)
    for row, t, s, p in zip(rows, tokens, segments, positions):
        assert t[s == 1].tolist() == row
        assert p[s == 1].tolist() == list(range(len(row)))
        assert s.tolist() == sorted(s.tolist())
    assert not segments[len(rows) :].any()


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_bucket(size, minimum):
    value = bucket(size, minimum)
    assert value & (value - 1) == 0
    assert value >= max(size, minimum)
    assert value < 2 * max(size, minimum, 1)
