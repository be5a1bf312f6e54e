"""Batching, cutting, and log-probabilities against a row-by-row computation."""

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from t5x_style import models
from t5x_style.evaluation import scoring
from t5x_style.models.presets.llama import llama


def test_rows_worked_example():
    fields = scoring.score_rows([[5, 6], []], [[8, 1], [7]], length=5, start_id=3)
    np.testing.assert_array_equal(fields["decoder_input_tokens"], [[3, 5, 6, 8, 0], [3, 0, 0, 0, 0]])
    np.testing.assert_array_equal(fields["decoder_target_tokens"], [[5, 6, 8, 1, 0], [7, 0, 0, 0, 0]])
    np.testing.assert_array_equal(fields["decoder_loss_weights"], [[0, 0, 1, 1, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(fields["decoder_causal_attention"], [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(fields["decoder_segment_ids"], [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]])


@given(st.lists(st.integers(0, 2000), max_size=40), st.integers(1, 9))
def test_batches_hold_every_row_once_and_fit(lengths, batch_size):
    found = list(scoring.batches(lengths, batch_size))
    assert sorted(index for chosen, _ in found for index in chosen) == list(range(len(lengths)))
    for chosen, length in found:
        assert 1 <= len(chosen) <= batch_size
        assert max(lengths[index] for index in chosen) <= length
    assert [length for _, length in found] == sorted((length for _, length in found), reverse=True)


@pytest.mark.parametrize(
    ("length", "padded"), [(0, 64), (1, 64), (64, 64), (65, 128), (512, 512), (513, 768), (769, 1024)]
)
def test_bucket(length, padded):
    assert scoring.bucket(length) == padded


def test_cut_sides_and_count():
    rows = [[1, 2, 3], [4], []]
    assert scoring.cut(rows, 2, "left") == ([[2, 3], [4], []], 1)
    assert scoring.cut(rows, 2, "right") == ([[1, 2], [4], []], 1)
    assert scoring.cut(rows, 3, "left") == (rows, 0)


@pytest.fixture(scope="module")
def model():
    config = llama(vocab_size=50, embed_dim=16, layers=2, heads=2, kv_heads=1, vocab_multiple=32)
    return models.build(config, nnx.Rngs(0))


def naive(model, prompt, answer, bidirectional):
    """Log-probability of one answer from the full scores of one unpadded row."""
    tokens = [3, *prompt, *answer]
    prefix = np.array([[1] * (len(prompt) + 1) + [0] * (len(answer) - 1)]) if answer else None
    hidden = model(np.array([tokens[:-1]]), causal_attention=prefix if bidirectional else None)
    log_probs = jax.nn.log_softmax(model.head.logits(hidden)[0], axis=-1)
    return sum(float(log_probs[len(prompt) + offset, token]) for offset, token in enumerate(answer))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_scores_equal_row_by_row(model, bidirectional):
    generator = np.random.default_rng(0)
    sizes = [(5, 3), (0, 4), (70, 1), (64, 2), (1, 1)]
    inputs = [generator.integers(4, 50, size=prompt).tolist() for prompt, _ in sizes]
    targets = [generator.integers(4, 50, size=answer).tolist() for _, answer in sizes]
    scorer = scoring.Scorer(model, scoring.ScoringSettings(2, 3, bidirectional))
    expected = [naive(model, prompt, answer, bidirectional) for prompt, answer in zip(inputs, targets)]
    np.testing.assert_allclose(scorer(inputs, targets), expected, rtol=1e-5, atol=1e-5)


def test_bidirectional_inputs_change_the_score(model):
    inputs, targets = [[5, 6, 7, 8]], [[9, 10]]
    one, other = (scoring.Scorer(model, scoring.ScoringSettings(1, 3, both))(inputs, targets) for both in (False, True))
    assert abs(one[0] - other[0]) > 1e-4


def test_nothing_to_score(model):
    scorer = scoring.Scorer(model, scoring.ScoringSettings(2, 3))
    assert scorer([], []) == []
    assert scorer([[5]], [[]]) == [0.0]
