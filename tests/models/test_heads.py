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
from t5x_style.models import build, flops_per_token, pooling
from t5x_style.models import specs as parts
from t5x_style.models.heads import choice_logits
from t5x_style.models.presets import albert, bert, mt_dnn, spanbert, t5
from t5x_style.models.serialization import from_json, to_json

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
    return jnp.asarray(np.random.default_rng(seed).integers(1, 50, shape))


@pytest.fixture(scope="module")
def model():
    return build(encoder())


def test_shapes_of_every_kind_over_one_encoder(model):
    hidden = model(tokens(2, 9))
    shapes = {name: head.logits(hidden).shape for name, head in model.tasks.items()}
    assert shapes == {
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
    assert model.head.logits(hidden).shape == (2, 9, 64)  # beside the masked-LM head
    assert choice_logits(model, "answers", tokens(2, 4, 9)).shape == (2, 4)


def test_configurations_with_heads_go_to_json_and_back():
    for config in (encoder(), spanbert.spanbert("tiny"), mt_dnn.mt_dnn("tiny")):
        assert from_json(to_json(config)) == config


def test_indices_of_first_and_last_tokens():
    ids = jnp.array([[0, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 1], [0] * 7])
    assert pooling.first_tokens(ids).tolist() == [1, 0, -1]
    assert pooling.last_tokens(ids).tolist() == [5, 6, -1]
    assert pooling.first_tokens(ids, 3).tolist() == [[1, 3, -1], [0, -1, -1], [-1, -1, -1]]
    assert pooling.last_tokens(ids, 3).tolist() == [[2, 5, -1], [6, -1, -1], [-1, -1, -1]]
    rows = jnp.array([[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [5, 0, 6, 0, 0], [0, 0, 0, 0, 0]])
    assert pooling.last_not_equal(rows, 0).tolist() == [2, 4, 2, 0]


@pytest.mark.parametrize("name", ["nli", "topics", "place", "quality"])
def test_padding_on_either_side_changes_no_answer(model, name):
    row = tokens(1, 6)
    alone = model.tasks[name].logits(model(row))
    for left, right in ((0, 4), (3, 0), (2, 5)):
        padded = jnp.pad(row, ((0, 0), (left, right)))
        ids = jnp.pad(jnp.ones((1, 6), int), ((0, 0), (left, right)))
        places = jnp.pad(jnp.arange(6)[None], ((0, 0), (left, right)))
        hidden = model(padded, segment_ids=ids, positions=places)
        np.testing.assert_allclose(model.tasks[name].logits(hidden, segment_ids=ids), alone, atol=1e-5)


@pytest.mark.parametrize("name", ["nli", "similarity", "quality"])
def test_packed_segments_are_answered_one_by_one(model, name):
    first, second = tokens(1, 4, seed=1), tokens(1, 3, seed=2)
    row = jnp.concatenate([first, second, jnp.zeros((1, 2), int)], axis=1)
    ids = jnp.array([[1, 1, 1, 1, 2, 2, 2, 0, 0]])
    hidden = model(row, segment_ids=ids, positions=jnp.array([[0, 1, 2, 3, 0, 1, 2, 0, 0]]))
    head = model.tasks[name]
    found = head.logits(hidden, segment_ids=ids, segments=3)
    for number, alone in enumerate((first, second)):
        np.testing.assert_allclose(found[0, number], head.logits(model(alone))[0], atol=1e-5)
    assert float(jnp.abs(found[0, 2]).max()) == 0  # the row has no third segment
    assert float(jnp.abs(found[0, 0] - found[0, 1]).max()) > 1e-3


def test_packed_choices_equal_choices_in_rows_of_their_own(model):
    choices = tokens(1, 3, 4)
    ids = jnp.repeat(jnp.array([1, 2, 3]), 4)[None]
    hidden = model(choices.reshape(1, 12), segment_ids=ids, positions=jnp.tile(jnp.arange(4), 3)[None])
    packed = model.tasks["answers"].logits(hidden, segment_ids=ids, segments=3)
    np.testing.assert_allclose(packed, choice_logits(model, "answers", choices), atol=1e-5)


def test_a_pair_is_told_apart_by_its_token_types(model):
    row, types = tokens(1, 8), jnp.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    one = model.tasks["nli"].logits(model(row))
    assert float(jnp.abs(one - model.tasks["nli"].logits(model(row, token_types=types))).max()) > 1e-3


def test_heads_share_the_encoder_and_nothing_else(model):

    def loss(state, name):
        merged = nnx.merge(graphdef, state)
        return jnp.sum(merged.tasks[name].logits(merged(row)) ** 2)

    graphdef, state = nnx.split(model)
    row = tokens(2, 7)
    for name in ("nli", "tags"):
        gradients = jax.grad(loss)(state, name)
        flat = {"/".join(map(str, path)): value for path, value in nnx.to_flat_state(gradients)}
        heads = [(path.split("/")[1], value[...]) for path, value in flat.items() if path.startswith("task_heads/")]
        moved = {task for task, value in heads if jnp.any(value)}
        assert moved == {name}
        assert bool(jnp.any(flat["embedding/table"][...]))


def test_a_decoder_has_heads_too(make_config):
    reward = parts.TaskHeadSpec("reward", "reward", pool="last", bias=False)
    config = make_config(head=None, tasks=(reward,))
    model = build(config)
    assert {path[0] for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))} == {
        "embedding",
        "trunk",
        "final_norm",
        "task_heads",
    }
    ids = jnp.array([[1, 1, 1, 0], [0, 1, 1, 1]])
    hidden = model(tokens(2, 4), segment_ids=ids)
    found = model.tasks["reward"].logits(hidden, segment_ids=ids)
    kernel = model.task_heads["reward"].scores.kernel[...]
    np.testing.assert_allclose(found, jnp.stack([hidden[0, 2] @ kernel, hidden[1, 3] @ kernel])[:, 0], rtol=1e-5)
    with_head = flops_per_token(make_config(), 16)
    assert with_head - flops_per_token(config, 16) == 6 * 64 * 32


def test_an_encoder_decoders_heads_see_its_decoder():
    plain = t5.t5("tiny", vocab_size=50)
    task = parts.TaskHeadSpec("nli", "classification", ("a", "b"), pool="last", transform="tanh")
    config = dataclasses.replace(plain, decoder=dataclasses.replace(plain.decoder, tasks=(task,)))
    model = build(config)
    hidden = model(tokens(2, 3), tokens(2, 5, seed=1))
    weights = model.task_heads["nli"]
    expected = weights.scores(jnp.tanh(weights.dense(hidden[:, -1])))
    np.testing.assert_allclose(model.tasks["nli"].logits(hidden), expected, rtol=1e-5)
    with pytest.raises(UserError, match=r"give them as decoder\.tasks"):
        dataclasses.replace(plain, encoder=dataclasses.replace(plain.encoder, tasks=(task,)))


def test_a_model_without_a_vocabulary_head_says_so():
    model = build(mt_dnn.mt_dnn("tiny"))
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
    model = build(config)
    for path, variable in nnx.to_flat_state(nnx.state(model.task_heads, nnx.Param)):
        drawn = np.random.default_rng(len(path)).normal(size=variable.shape) * 0.3
        variable.set_value(jnp.asarray(drawn, jnp.float32))
    hidden = model(tokens(2, 9))
    left, right = jnp.array([[2, 2, 2], [0, 0, 5]]), jnp.array([[6, 6, 6], [3, 3, 7]])
    place = jnp.array([[0, 1, 2], [0, 1, 0]])
    head = model.tasks["span_boundary"]
    x = head.represent(hidden, left, right, place)
    found = np.asarray(head.head.logits(x))[..., :50]
    for row in range(2):
        for number in range(3):
            spot = (int(left[row, number]), int(right[row, number]), int(place[row, number]))
            expected = reference_boundary(model, np.asarray(hidden[row], np.float64), *spot)[:50]
            np.testing.assert_allclose(found[row, number], expected, atol=2e-4)
    loss, count, _ = cross_entropy(head.head, x, jnp.array([[3, 4, 5], [6, 7, 8]]), jnp.ones((2, 3)))
    expected = -np.mean(jax.nn.log_softmax(found)[[[0] * 3, [1] * 3], [[0, 1, 2]] * 2, [[3, 4, 5], [6, 7, 8]]])
    assert float(loss / count) == pytest.approx(float(expected), rel=1e-4)


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
    hidden = model(tokens(1, 4))
    with pytest.raises(UserError, match="'tags' of kind tags answers for every token"):
        model.tasks["tags"].logits(hidden, segments=2)
    with pytest.raises(UserError, match="'nli' of kind classification needs segment_ids"):
        model.tasks["nli"].logits(hidden, segments=2)


def test_a_shared_layer_is_held_once_and_runs_often():
    config = albert.albert("tiny", vocab_size=50, init=WIDE)
    model = build(config)
    kernel = model.trunk.segments[0].layers[0].mlp.up.kernel
    assert kernel.shape == (64, 256)
    assert len(config.layers) == 3
    assert model.embedding.table.shape[1] == 32
