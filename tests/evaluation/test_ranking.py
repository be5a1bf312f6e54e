"""Shared prompts give the scores of row-by-row scoring."""

import numpy as np
import pytest

from t5x_style import decoding
from t5x_style.errors import UserError
from t5x_style.evaluation import ranking
from t5x_style.models.presets.llama import llama
from tests import built


@pytest.fixture(scope="module")
def model():
    config = llama(vocab_size=50, embed_dim=16, layers=1, heads=2, kv_heads=1, vocab_multiple=32)
    return decoding.prepare(built.build(config, 0))


def draw(generator, size):
    return generator.integers(4, 50, size=size).tolist()


@pytest.mark.parametrize(
    "batch_size", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(32, marks=pytest.mark.slow)]
)
def test_equal_to_scoring_every_row(model, batch_size):
    generator = np.random.default_rng(0)
    prompts = [[3, *draw(generator, size)] for size in (0, 5, 127, 130)]
    options = [(1, 4), (2, 2, 9), (3,), (0, 1)]  # lengths; one, two or three options, one of them empty
    inputs = [prompt for prompt, sizes in zip(prompts, options) for _ in sizes]
    targets = [draw(generator, size) for sizes in options for size in sizes]
    order = generator.permutation(len(inputs))  # options need not stand together
    inputs, targets = [inputs[i] for i in order], [targets[i] for i in order]
    expected = decoding.score(model, inputs, targets).log_probs
    np.testing.assert_allclose(ranking.score(model, inputs, targets, batch_size), expected, rtol=1e-5, atol=1e-5)
    assert len(set(np.round(expected, 3))) == len(expected)


def test_prompts_that_all_differ_and_nothing_at_all(model):
    assert ranking.score(model, [[3, 4], [3, 5]], [[6], [6]], 2) == pytest.approx(
        decoding.score(model, [[3, 4], [3, 5]], [[6], [6]]).log_probs.tolist()
    )
    assert ranking.score(model, [], [], 2) == []
    assert ranking.score(model, [[3], [3]], [[], []], 2) == [0.0, 0.0]


def test_answers_worked_example():
    tokens, weights = ranking._answers([[[7, 8], [9]], [[6]]], batch=3)
    assert tokens.shape == weights.shape == (2, 3, 8)
    assert tokens[:, :, :2].tolist() == [[[7, 8], [6, 0], [0, 0]], [[9, 0], [0, 0], [0, 0]]]
    assert weights[:, :, :2].tolist() == [[[1, 1], [1, 0], [0, 0]], [[1, 0], [0, 0], [0, 0]]]
    assert not tokens[:, :, 2:].any()


def test_wrong_ids_are_refused(model):
    with pytest.raises(UserError, match="outside the vocabulary of 50"):
        ranking.score(model, [[3, 4], [3, 4]], [[5], [50]], 2)
