"""Task heads: shapes, which token they take, packed rows, several over one encoder, specs that are refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import abstract, flops_per_token, pooling
from t5x_style.models import specs as parts
from t5x_style.models.heads import choice_logits
from t5x_style.models.presets import albert, bert, mt_dnn, spanbert, t5
from t5x_style.models.serialization import from_json, to_json
from tests.models.conftest import filled, jitted

POOLED = {"pool": "first"}
TASKS = (
    parts.TaskHeadSpec("nli", "classification", ("a", "b", "c"), pool="pooler"),
    parts.TaskHeadSpec("topics", "multi_label", ("x", "y"), pool="first", transform="tanh"),
    parts.TaskHeadSpec("similarity", "regression", ("score",), pool="pooler"),
    parts.TaskHeadSpec("place", "regression", ("x", "y"), pool="last"),
    parts.TaskHeadSpec("answers", "choice", pool="pooler"),
    parts.TaskHeadSpec("quality", "reward", pool="last", bias=False),
    parts.TaskHeadSpec("next", "next_sentence", pool="pooler"),
    parts.TaskHeadSpec("order", "sentence_order", pool="pooler"),
    parts.TaskHeadSpec("answer", "span"),
    parts.TaskHeadSpec("tags", "tags", ("O", "B-X", "I-X", "E-X", "S-X")),
)
WIDE = parts.InitSpec(0.3, depth_scaled=False)


def encoder(**changes):
    return bert.bert("tiny", vocab_size=50, **{"tasks": TASKS, "init": WIDE, "vocab_multiple": 16, **changes})


def tokens(*shape, seed=0):
    return np.random.default_rng(seed).integers(1, 50, shape)


@pytest.fixture(scope="module")
def model():
    return filled(encoder())


@jitted
def answers(model, row, segment_ids=None, positions=None, token_types=None):
    """What every head says, one answer a row."""
    hidden = model(row, segment_ids=segment_ids, positions=positions, token_types=token_types)
    return {name: head.logits(hidden, segment_ids=segment_ids) for name, head in model.tasks.items()}


@jitted
def packed_answers(model, row, segment_ids, positions):
    """What every sentence-level head says of up to three segments a row."""
    hidden = model(row, segment_ids=segment_ids, positions=positions)
    heads = {name: head for name, head in model.tasks.items() if head.spec.kind not in ("tags", "span")}
    return {name: head.logits(hidden, segment_ids=segment_ids, segments=3) for name, head in heads.items()}


def padded(rows, left, right):
    """Rows of equal length with padding on both sides: tokens, segment ids, positions."""
    length = rows.shape[1]
    ids, places = np.ones_like(rows), np.broadcast_to(np.arange(length), rows.shape)
    return [np.pad(array, ((0, 0), (left, right))) for array in (rows, ids, places)]


def test_shapes_of_every_kind_over_one_encoder(model):
    @jitted
    def everything(model, row, choices):
        hidden = model(row)
        found = {name: head.logits(hidden) for name, head in model.tasks.items()}
        return found, model.head.logits(hidden), choice_logits(model, "answers", choices)

    found, masked_lm, choices = everything(model, tokens(2, 9), tokens(2, 4, 9))
    assert {name: logits.shape for name, logits in found.items()} == {
        "nli": (2, 3),
        "topics": (2, 2),
        "similarity": (2,),
        "place": (2, 2),
        "answers": (2,),
        "quality": (2,),
        "next": (2, 2),
        "order": (2, 2),
        "answer": (2, 9, 2),
        "tags": (2, 9, 5),
    }
    assert masked_lm.shape == (2, 9, 64)  # beside the masked-LM head
    assert choices.shape == (2, 4)


def test_configurations_with_heads_go_to_json_and_back():
    for config in (encoder(), spanbert.spanbert("tiny"), mt_dnn.mt_dnn("tiny")):
        assert from_json(to_json(config)) == config


def test_indices_of_first_and_last_tokens():
    ids = np.array([[0, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1], [0] * 7])
    rows = np.array([[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [5, 0, 6, 0, 0], [0, 0, 0, 0, 0]])

    @jax.jit
    def found(ids, rows):
        first, last = pooling.first_tokens, pooling.last_tokens
        return first(ids), last(ids), first(ids, 3), last(ids, 3), pooling.last_not_equal(rows, 0)

    assert [indices.tolist() for indices in found(ids, rows)] == [
        [1, 0, -1],
        [5, 6, -1],
        [[1, 3, -1], [0, -1, -1], [-1, -1, -1]],
        [[2, 5, -1], [6, -1, -1], [-1, -1, -1]],
        [2, 4, 2, 0],
    ]


@pytest.mark.parametrize("name", ["nli", "topics", "place", "quality"])
def test_padding_on_either_side_changes_no_answer(model, name):
    row = tokens(1, 6)
    alone = answers(model, row)[name]
    for left, right in ((0, 7), (7, 0), (2, 5)):
        np.testing.assert_allclose(answers(model, *padded(row, left, right))[name], alone, atol=1e-5)


@pytest.mark.parametrize("name", ["nli", "similarity", "quality"])
def test_packed_segments_are_answered_one_by_one(model, name):
    first, second = tokens(1, 4, seed=1), tokens(1, 3, seed=2)
    row = np.concatenate([first, second, np.zeros((1, 6), int)], axis=1)
    ids = np.array([[1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0]])
    places = np.array([[0, 1, 2, 3, 0, 1, 2, 0, 0, 0, 0, 0, 0]])
    found = packed_answers(model, row, ids, places)[name]
    for number, alone in enumerate((first, second)):
        expected = answers(model, *padded(alone, 0, 13 - alone.shape[1]))[name]
        np.testing.assert_allclose(found[0, number], expected[0], atol=1e-5)
    assert float(np.abs(found[0, 2]).max()) == 0  # the row has no third segment
    assert float(np.abs(found[0, 0] - found[0, 1]).max()) > 1e-3


def test_packed_choices_equal_choices_in_rows_of_their_own(model):
    choices = tokens(1, 3, 4)
    ids = np.repeat([[1, 2, 3, 0]], [4, 4, 4, 1], axis=1)
    places = np.append(np.tile(np.arange(4), 3), 0)[None]
    packed = packed_answers(model, np.append(choices, 0)[None], ids, places)["answers"]
    alone = jitted(lambda model, choices: choice_logits(model, "answers", choices))(model, choices)
    np.testing.assert_allclose(packed, alone, atol=1e-5)


def test_a_pair_is_told_apart_by_its_token_types(model):
    row, types = tokens(1, 6), np.array([[0, 0, 0, 1, 1, 1]])
    one, other = answers(model, row), answers(model, row, token_types=types)
    assert float(np.abs(one["nli"] - other["nli"]).max()) > 1e-3


def test_heads_share_the_encoder_and_nothing_else(model):
    names = ("nli", "tags")

    @jitted
    def gradients(model, row):
        graphdef, state = nnx.split(model)

        def loss(state, name):
            merged = nnx.merge(graphdef, state)
            return jnp.sum(merged.tasks[name].logits(merged(row)) ** 2)

        return [jax.grad(loss)(state, name) for name in names]

    for name, gradient in zip(names, gradients(model, tokens(2, 7)), strict=True):
        flat = {"/".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(gradient)}
        heads = [(path.split("/")[1], value) for path, value in flat.items() if path.startswith("task_heads/")]
        moved = {task for task, value in heads if np.any(value)}
        assert moved == {name}
        assert np.any(flat["embedding/table"])


def test_a_decoder_has_heads_too(make_config):
    reward = parts.TaskHeadSpec("reward", "reward", pool="last", bias=False)
    config = make_config(head=None, tasks=(reward,))
    model = filled(config)
    assert {path[0] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))} == {
        "embedding",
        "trunk",
        "final_norm",
        "task_heads",
    }
    ids = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])

    @jitted
    def read(model, row, ids):
        hidden = model(row, segment_ids=ids)
        return hidden, model.tasks["reward"].logits(hidden, segment_ids=ids)

    hidden, found = read(model, tokens(2, 4), ids)
    kernel = np.asarray(model.task_heads["reward"].scores.kernel[...])
    np.testing.assert_allclose(found, np.stack([hidden[0, 2] @ kernel, hidden[1, 3] @ kernel])[:, 0], rtol=1e-5)
    with_head = flops_per_token(make_config(), 16)
    assert with_head - flops_per_token(config, 16) == 6 * 64 * 32


def test_an_encoder_decoders_heads_see_its_decoder():
    plain = t5.t5("tiny", vocab_size=50)
    task = parts.TaskHeadSpec("nli", "classification", ("a", "b"), pool="last", transform="tanh")
    config = dataclasses.replace(plain, decoder=dataclasses.replace(plain.decoder, tasks=(task,)))
    model = filled(config)

    @jitted
    def read(model, row, source):
        hidden, weights = model(row, source), model.task_heads["nli"]
        return model.tasks["nli"].logits(hidden), weights.scores(jnp.tanh(weights.dense(hidden[:, -1])))

    found, expected = read(model, tokens(2, 3), tokens(2, 5, seed=1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(UserError, match=r"give them as decoder\.tasks"):
        dataclasses.replace(plain, encoder=dataclasses.replace(plain.encoder, tasks=(task,)))


def test_a_model_without_a_vocabulary_head_says_so():
    model = abstract(mt_dnn.mt_dnn("tiny"))
    assert set(model.tasks) == {"cola", "sst2", "mrpc", "qqp", "mnli", "rte", "wnli", "stsb", "qnli"}
    with pytest.raises(UserError, match=r"no vocabulary head \(config.head is None\)"):
        _ = model.head


def reference_boundary(model, hidden, left, right, place):
    """Joshi et al. 2020, section 3.2, in numpy, for one token."""
    weights = model.task_heads["span_boundary"]

    def value(variable):
        return np.asarray(variable[...], np.float64)

    def dense_norm(x, dense, norm):
        x = x @ value(dense.kernel) + value(dense.bias)
        erf = np.vectorize(math.erf)
        x = x * 0.5 * (1 + erf(x / np.sqrt(2)))
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-12)
        return x * value(norm.scale) + value(norm.bias)

    x = np.concatenate([hidden[left], hidden[right], value(weights.positions.table)[place]])
    x = dense_norm(x, weights.dense, weights.norm)
    x = dense_norm(x, weights.output, weights.output_norm)
    return value(model.embedding.table) @ x + value(weights.bias)


def test_span_boundaries_equal_the_papers_formula_and_train():
    config = spanbert.spanbert("tiny", vocab_size=50, vocab_multiple=16, init=WIDE)
    model = filled(config)
    left, right = np.array([[2, 2, 2], [0, 0, 5]]), np.array([[6, 6, 6], [3, 3, 7]])
    place, targets = np.array([[0, 1, 2], [0, 1, 0]]), np.array([[3, 4, 5], [6, 7, 8]])

    @jitted
    def read(model, row, left, right, place, targets):
        hidden, head = model(row), model.tasks["span_boundary"]
        x = head.represent(hidden, left, right, place)
        loss, count, _ = cross_entropy(head.head, x, targets, jnp.ones((2, 3)))
        return hidden.astype(jnp.float32), head.head.logits(x)[..., :50], loss / count

    hidden, found, loss = read(model, tokens(2, 9), left, right, place, targets)
    for row in range(2):
        for number in range(3):
            spot = (int(left[row, number]), int(right[row, number]), int(place[row, number]))
            expected = reference_boundary(model, hidden[row].astype(np.float64), *spot)[:50]
            np.testing.assert_allclose(found[row, number], expected, atol=2e-4)
    likelihoods = found - np.log(np.exp(found).sum(axis=-1, keepdims=True))
    expected = -np.mean(np.take_along_axis(likelihoods, targets[..., None], axis=-1))
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parts.TaskHeadSpec("a/b", "tags", ("O",)), "name is 'a/b'; give an identifier"),
        (lambda: parts.TaskHeadSpec("items", "tags", ("O",)), "no method's name of a dict"),
        (lambda: parts.TaskHeadSpec("x", "ranking", **POOLED), "choose one of classification"),
        (lambda: parts.TaskHeadSpec("x", "classification", ("one",), **POOLED), "has 1 labels.*give 2 or more"),
        (lambda: parts.TaskHeadSpec("x", "tags", ("O",), **POOLED), "answers for every token; give pool=None"),
        (lambda: parts.TaskHeadSpec("x", "reward"), "pool is 'None'; choose one of first, pooler, last"),
        (lambda: parts.TaskHeadSpec("x", "choice", ("a", "b"), **POOLED), "takes at most 0 labels"),
        (lambda: parts.TaskHeadSpec("x", "reward", transform="swish", **POOLED), "transform is 'swish'"),
        (lambda: parts.SpanBoundarySpec(max_span=0), "max_span is 0"),
        (lambda: encoder(tasks=(TASKS[0], TASKS[0])), "names are nli, nli; give each task its own"),
        (lambda: mt_dnn.mt_dnn("huge"), "size 'huge' is not known; choose one of tiny"),
    ],
)
def test_specs_that_do_not_fit(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_pooled_head_needs_a_pooler(make_config):
    with pytest.raises(UserError, match=r"nli has pool='pooler', which needs EncoderConfig\(pooler=True\)"):
        make_config(tasks=(TASKS[0],))


def test_arguments_that_do_not_fit_a_head(model):
    hidden = np.zeros((1, 4, model.config.embed_dim), np.float32)
    with pytest.raises(UserError, match="'tags' of kind tags answers for every token"):
        model.tasks["tags"].logits(hidden, segments=2)
    with pytest.raises(UserError, match="'nli' of kind classification needs segment_ids"):
        model.tasks["nli"].logits(hidden, segments=2)


def test_a_shared_layer_is_held_once_and_runs_often():
    config = albert.albert("tiny", vocab_size=50, init=WIDE)
    model = abstract(config)
    kernel = model.trunk.segments[0].layers[0].mlp.up.kernel
    assert kernel.shape == (64, 256)
    assert len(config.layers) == 3
    assert model.embedding.table.shape[1] == 32
