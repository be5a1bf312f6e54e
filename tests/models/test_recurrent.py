"""Recurrent language models: the decoder's interface, packed documents, states, generation, learning, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from t5x_style.decoding import BeamSearch, generate, score
from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.losses.forward import forward
from t5x_style.models import flops_per_token, parameter_count
from t5x_style.models import specs as parts
from t5x_style.models.serialization import from_json, to_json
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from tests.built import build
from tests.models.conftest import filled, jitted

VOCAB = 50
CONFIGS = {
    "lstm": RecurrentConfig(VOCAB, 12, (17, 9), vocab_multiple=16, init=parts.InitSpec(0.4)),
    "lstm-projected-tied": RecurrentConfig(
        VOCAB, 12, (16, 20), projection=12, vocab_multiple=16, tied_embeddings=True, init=parts.InitSpec(0.4)
    ),
    "gru": RecurrentConfig(VOCAB, 12, (12,), "gru", vocab_multiple=16, init=parts.InitSpec(0.4)),
    "rnn": RecurrentConfig(VOCAB, 12, (15, 15, 12), "rnn", vocab_multiple=16, init=parts.InitSpec(0.4)),
}


# Every cell generates with the same loop, whose cache test_a_cache_goes_on_where_it_stopped looks at, and learns by the
# same differentiation; the others say it again.
LSTM_FIRST = [name if name == "lstm" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return filled(CONFIGS[request.param], 1)


def drawn(rows=2, length=11, seed=0):
    return np.random.default_rng(seed).integers(0, VOCAB, (rows, length))


@jitted
def states(model, tokens, segment_ids=None):
    return model(tokens, segment_ids=segment_ids)


def test_it_reads_left_to_right(model):
    tokens = drawn()
    changed = tokens.copy()
    changed[:, 6] = (tokens[:, 6] + 1) % VOCAB
    before, after = states(model, tokens), states(model, changed)
    np.testing.assert_array_equal(after[:, :6], before[:, :6])
    assert (after[:, 6:] != before[:, 6:]).any(axis=(0, 2)).all()
    assert before.shape == (2, 11, 12)


def test_packed_documents_never_see_each_other(model):
    tokens, ids = drawn(), np.array([[1] * 4 + [2] * 5 + [0] * 2] * 2)
    before = states(model, tokens, ids)
    for document in (0, 1, 2):
        other = np.where(ids == document, (tokens + 7) % VOCAB, tokens)
        after = states(model, other, ids)
        np.testing.assert_array_equal(after[ids != document], before[ids != document])
        assert (after[ids == document] != before[ids == document]).any()
    alone = states(model, np.roll(tokens, -4, axis=1))[:, :5]  # what comes behind changes nothing
    np.testing.assert_allclose(before[:, 4:9], alone, atol=1e-6)


def test_gradients_stay_in_their_document():
    @jitted
    def gradient(model, tokens, ids):
        graphdef, state = nnx.split(model)
        loss = lambda state: jnp.sum(nnx.merge(graphdef, state)(tokens, segment_ids=ids)[:, 4:] ** 2)  # noqa: E731
        return jax.grad(loss)(state)["embedding"]["table"][...]

    rows = gradient(filled(CONFIGS["lstm"], 1), np.arange(8)[None], np.array([[1] * 4 + [2] * 4]))
    assert (rows[:4] == 0).all()
    assert (np.abs(rows[4:8]).sum(axis=1) > 0).all()


def test_padding_on_either_side_changes_nothing(model):
    tokens = drawn(length=6)
    expected = states(model, np.pad(tokens, ((0, 0), (0, 5))))[:, :6]
    for left, right in ((5, 0), (0, 5)):
        ids = np.pad(np.ones((2, 6), int), ((0, 0), (left, right)))
        padded = np.pad(tokens, ((0, 0), (left, right)), constant_values=9)
        found = states(model, padded, ids)[:, left : left + 6]
        np.testing.assert_allclose(found, expected, atol=1e-6)


@jitted
def in_pieces(model, tokens):
    """Hidden states of pieces that go on from each other, the last cache, and another document from there."""
    cache, pieces = model.empty_cache(2, 100), []
    for piece in (tokens[:, :4], tokens[:, 4:5], tokens[:, 5:]):
        hidden, cache = model(piece, cache=cache)
        pieces.append(hidden)
    other, _ = model(tokens, segment_ids=jnp.full((2, 11), 2), cache=cache)
    return jnp.concatenate(pieces, axis=1), cache, other


def test_a_cache_goes_on_where_it_stopped(model):
    tokens = drawn()
    whole, (pieces, cache, other) = states(model, tokens), in_pieces(model, tokens)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    assert cache.segment_ids.tolist() == [1, 1]
    np.testing.assert_allclose(other, whole, atol=1e-6)  # another document begins


@pytest.mark.parametrize("model", LSTM_FIRST, indirect=True)
def test_greedy_generation_takes_the_likeliest_of_a_full_pass(model):
    prompts = [drawn(1, size, size)[0].tolist() for size in (1, 5, 13)]
    logits = jitted(lambda model, tokens: model.head.logits(model(tokens))[..., :VOCAB])
    rows = [list(prompt) for prompt in prompts]
    for _ in range(7):
        # what comes behind changes nothing
        scores = logits(model, np.array([row + [0] * (20 - len(row)) for row in rows]))
        for row, own in zip(rows, scores, strict=True):
            row.append(int(np.argmax(own[len(row) - 1])))
    assert generate(model, prompts, 7) == [row[-7:] for row in rows]


def test_beams_take_their_own_states():
    model = filled(CONFIGS["lstm"], 1)
    prompt = drawn(1, 4)[0].tolist()
    every = generate(model, [prompt], 2, beam_search=BeamSearch(40))[0]
    pairs = [[first, second] for first in range(VOCAB) for second in range(VOCAB)]
    scores = score(model, [prompt] * len(pairs), pairs, batch_size=512).log_probs
    assert every == pairs[int(np.argmax(scores))]


def learning(config, steps=60):
    """Losses of sequences that count upwards, two documents a row, through training's own forward pass."""
    random, length = np.random.default_rng(0), 16
    graphdef, params = nnx.split(build(config, 0))
    optimizer = optax.adam(1e-2)

    def loss(params, batch):
        model = nnx.merge(graphdef, params)
        read = forward(model, batch)
        total, weight, _ = cross_entropy(model.head, read.hidden, read.targets, read.weights)
        return total / weight

    @jax.jit
    def step(params, state, batch):
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for _ in range(steps):
        starts = random.integers(0, VOCAB, (8, 2))
        rows = (np.repeat(starts, length // 2, axis=1) + np.tile(np.arange(length // 2), 2)) % VOCAB
        last = np.tile(np.arange(length // 2) == length // 2 - 1, 2)
        batch = {
            "decoder_input_tokens": rows,
            "decoder_target_tokens": np.roll(rows, -1, axis=1),
            "decoder_loss_weights": np.broadcast_to(1.0 - last, rows.shape).astype(np.float32),
            "decoder_segment_ids": np.broadcast_to(np.repeat([1, 2], length // 2), rows.shape),
            "decoder_positions": np.broadcast_to(np.tile(np.arange(length // 2), 2), rows.shape),
        }
        params, state, value = step(params, state, batch)
        losses.append(float(value))
    return losses


@pytest.mark.parametrize("name", LSTM_FIRST)
def test_training_lowers_the_loss(name):
    losses = learning(dataclasses.replace(CONFIGS[name], init=parts.InitSpec()))
    assert losses[0] == pytest.approx(np.log(VOCAB), rel=0.25)
    assert np.mean(losses[-5:]) < 0.4 * losses[0]


def test_counts(model):
    config = model.config
    tied = config.tied_embeddings
    vectors = sum(value.size for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)) if path[-1] == "bias")
    table = config.padded_vocab_size * config.embed_dim
    assert parameter_count(config) == config.matrix_size + (0 if tied else table) + vectors + config.padded_vocab_size
    assert flops_per_token(config, 7) == flops_per_token(config, 70) == 6 * config.matrix_size
    assert from_json(to_json(config)) == config


def test_a_half_precision_state_keeps_its_cells_in_float32():
    half = jitted(lambda model, tokens: model(tokens, cache=model.empty_cache(2)))
    hidden, cache = half(filled(CONFIGS["lstm"], 1, policy=parts.DtypePolicy(compute="bfloat16")), drawn())
    assert hidden.dtype == jnp.bfloat16
    assert [array.dtype for array in cache.layers[0]] == [jnp.bfloat16, jnp.float32]
    full = states(filled(CONFIGS["lstm"], 1), drawn())
    np.testing.assert_allclose(hidden.astype(np.float32), full, atol=0.05)


def test_it_has_no_prefixes(model):
    with pytest.raises(UserError, match="reads left to right"):
        model(drawn(), causal_attention=np.ones((2, 11), int))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": ()}, "hidden_sizes is empty"),
        ({"hidden_sizes": (4, 0)}, r"hidden_sizes is \(4, 0\); give at least 1 a layer"),
        ({"cell": "qrnn"}, "RecurrentConfig.cell is 'qrnn'; choose one of lstm, gru, rnn"),
        ({"cell": "gru", "projection": 4}, 'RecurrentConfig.projection needs cell "lstm"'),
        ({"projection": 0}, "RecurrentConfig.projection is 0"),
        ({"vocab_size": 0}, "RecurrentConfig.vocab_size is 0"),
        ({"head": parts.HeadSpec(transform="gelu")}, "a transform is for masked-LM heads"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIGS["lstm"], **changes)
