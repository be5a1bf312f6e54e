"""Every kind of head on packed rows against loops over segments; terms of their own; fields that are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.forward import forward
from t5x_style.losses.loss import Sums
from t5x_style.losses.task_heads import TaskHeads
from t5x_style.models.presets import mt_dnn
from t5x_style.models.specs import TaskHeadSpec
from tests.losses import checks

pytestmark = pytest.mark.usefixtures("quick_to_compile")
TASKS = (
    TaskHeadSpec("nli", "classification", ("a", "b", "c"), pool="pooler"),
    TaskHeadSpec("topics", "multi_label", ("x", "y"), pool="first", transform="tanh"),
    TaskHeadSpec("similarity", "regression", ("score",), pool="pooler"),
    TaskHeadSpec("place", "regression", ("x", "y"), pool="last"),
    TaskHeadSpec("answers", "choice", pool="pooler"),
    TaskHeadSpec("next", "next_sentence", pool="pooler"),
    TaskHeadSpec("answer", "span"),
    TaskHeadSpec("names", "tags", ("O", "B", "I")),
)
KINDS = {task.name: task.kind for task in TASKS}
# up to four segments a row; `segments=3` leaves out the fourth
SEGMENTS = np.array([[1] * 4 + [2] * 3 + [3] * 3 + [0] * 2, [1] * 12, [1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 0, 0]])
COUNT = SEGMENTS.max()
# the first question of row 2 has choices 1 and 2, the other 3 and 4
PIECES = np.array([[1] * 10 + [0] * 2, [1] * 12, [1] * 5 + [2] * 5 + [0] * 2])
# By row and segment; labels below 0 and weights of 0 are not the head's.
W, NOT = np.array([[1.0, 0.5, 0.0, 0], [2.0, 0, 0, 0], [0.25, 1.0, 1.5, 1.0]]), -1
LABELS = {
    "nli": np.array([[2, NOT, 1, 0], [0, 0, 0, 0], [1, 2, 0, 1]]),
    "topics": np.random.default_rng(1).integers(0, 2, (3, COUNT, 2)),
    "similarity": np.random.default_rng(2).normal(size=(3, COUNT)),
    "place": np.random.default_rng(3).normal(size=(3, COUNT, 2)),
    "answers": np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]),
    "next": np.array([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]]),
    # within its segment; [1, 3] is beyond the second segment of row 0, (-1, -1) says nothing
    "answer": np.array(
        [[[0, 2], [1, 3], [2, 2], [0, 0]], [[4, 11], *[[0, 0]] * 3], [[1, 1], [-1, -1], [0, 1], [0, 0]]]
    ),
}


def make_batch(side="encoder"):
    batch = checks.batch(side, SEGMENTS)
    index = np.maximum(SEGMENTS - 1, 0)
    for name, labels in LABELS.items():
        kind = np.float32 if KINDS[name] in ("regression", "multi_label") else np.int32
        at = index.reshape(*index.shape, *(1,) * (labels.ndim - 2))
        batch[f"{side}_{name}_labels"] = np.take_along_axis(labels, at, axis=1).astype(kind)
        held = np.take_along_axis(W, index, axis=1) * (SEGMENTS > 0)
        batch[f"{side}_{name}_weights"] = held.astype(np.float32)
    random = np.random.default_rng(4)
    batch[f"{side}_names_labels"] = random.integers(-1, 3, SEGMENTS.shape).astype(np.int32)
    batch[f"{side}_names_weights"] = random.choice([0.0, 1.0, 0.5], SEGMENTS.shape).astype(np.float32)  # padding too
    batch[f"{side}_piece_ids"] = PIECES.astype(np.int32)
    return batch


BATCH = make_batch()


def units(name, segments=3):
    """(row, segment from 0, weight) of what counts, by hand."""
    for row in range(3):
        for segment in range(min(SEGMENTS[row].max(), segments)):
            weight, label = W[row, segment], LABELS[name][row, segment]
            kind = KINDS[name]
            length = int((SEGMENTS[row] == segment + 1).sum())
            if kind == "choice":
                weight *= label == 1
            elif kind == "span":
                weight *= bool(np.all(label >= 0) and np.all(label < length))
            elif kind in ("classification", "next_sentence"):
                weight *= label >= 0
            if weight:
                yield row, segment, weight


def loop(models, batch, now):
    """One head, one segment after the other, its tokens found by NumPy; labels are those above, not the batch's."""
    policy, log_softmax = models["policy"], jax.nn.log_softmax
    hidden = forward(policy, batch).hidden
    places = [[np.flatnonzero(row == segment + 1) for segment in range(COUNT)] for row in SEGMENTS]
    losses, metrics = {}, {}
    for name, kind in KINDS.items():
        head, total, right = policy.tasks[name], jnp.float32(0), jnp.float32(0)
        if kind == "tags":
            labels, w = np.maximum(BATCH["encoder_names_labels"], 0), tag_weights()
            scores = head.logits(hidden)
            losses[name] = -jnp.sum(w[..., None] * log_softmax(scores) * np.eye(3)[labels])
            metrics[name] = jnp.sum(w * (jnp.argmax(scores, axis=-1) == labels))
            continue
        end = -1 if head.spec.pool == "last" else 0
        at = np.array([[place[end] if len(place) else 0 for place in row] for row in places])
        scores = head.logits(hidden) if kind == "span" else head.logits(hidden, at=at)
        for row, segment, weight in units(name):
            label, mine = LABELS[name][row, segment], scores[row, segment]
            if kind == "span":
                mine = scores[row, places[row][segment]]
                log_p = log_softmax(mine, axis=0)
                total += -weight * (log_p[label[0], 0] + log_p[label[1], 1]) / 2
                right += weight * jnp.all(jnp.argmax(mine, axis=0) == label)
            elif kind == "choice":
                question = PIECES[row, places[row][segment][0]]
                rivals = [s for s in range(3) if len(places[row][s]) and PIECES[row, places[row][s][0]] == question]
                mine = scores[row, np.array(rivals)]
                total += -weight * log_softmax(mine)[rivals.index(segment)]
                right += weight * (jnp.argmax(mine) == rivals.index(segment))
            elif kind == "regression":
                total += weight * jnp.mean((mine - label) ** 2)
            elif kind == "multi_label":
                p = jax.nn.sigmoid(mine)
                total += -weight * jnp.mean(label * jnp.log(p) + (1 - label) * jnp.log(1 - p))
                right += weight * jnp.mean((p > 0.5) == (label == 1))
            else:
                total += -weight * log_softmax(mine)[label]
                right += weight * (jnp.argmax(mine) == label)
        losses[name], metrics[name] = total, right
    return Sums(losses, metrics)


def tag_weights():
    """Weights of the tokens that have a tag."""
    return BATCH["encoder_names_weights"] * (BATCH["encoder_names_labels"] >= 0) * (SEGMENTS > 0)


@pytest.fixture(scope="module")
def models():
    return {"policy": checks.model(checks.encoder(TASKS))}


def test_every_kind_equals_loops_over_segments(models):
    loss = TaskHeads(KINDS, segments=3)
    run = checks.program(loss, models)
    found = run(BATCH)
    expected = checks.program(loss, models, loop)(BATCH)
    checks.assert_equal(found, expected, rtol=1e-4)
    for name, kind in KINDS.items():
        weight = sum(weight for *_, weight in units(name)) if kind != "tags" else None
        assert weight is None or float(found[1][name]) == pytest.approx(weight), name
        if kind == "regression":
            assert found[0].metrics[f"{name}_mse"] == (found[0].losses[name], found[1][name])
            continue
        right, share = found[0].metrics[f"{name}_{'exact_match' if kind == 'span' else 'accuracy'}"]
        assert float(right) == pytest.approx(float(expected[0].metrics[name])), name
        assert float(share) == float(found[1][name])
    assert float(found[1]["names"]) == pytest.approx(tag_weights().sum())
    assert found[0].metrics["segments_left_out"] == (1, 8)
    sums, _, gradient = run({name: array * (not name.endswith("_weights")) for name, array in BATCH.items()})
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((sums.losses, gradient)))  # no weight: 0, not NaN
    learned = run.descend(BATCH, 20, 0.01)  # one trunk learns all tasks
    for name, value in learned.losses.items():
        assert float(value) < 0.8 * float(found[0].losses[name]), name


def test_accumulates(models):
    some = {name: KINDS[name] for name in ("nli", "similarity", "answers", "answer", "names")}
    loss = TaskHeads(some, segments=4, language_model=0.5)
    checks.assert_accumulates(loss, models, BATCH)


def test_a_task_counts_alike_however_many_segments_it_has(models):
    """Doubling the rows of one head changes the means of no other; a coefficient multiplies its own term alone."""
    loss = TaskHeads({"nli": "classification", "similarity": "regression"}, 3, {"nli": 0.5})
    twice = {name: np.concatenate([array, array]) for name, array in BATCH.items()}
    twice["encoder_similarity_weights"][3:] = 0
    run = checks.losses_of(loss, models)
    (one, weights), (two, twice_weights) = run(BATCH), run(twice)
    plain = checks.losses_of(dataclasses.replace(loss, coefficients={}), models)(BATCH)[0]
    assert float(twice_weights["nli"]) == 2 * float(weights["nli"])
    assert float(twice_weights["similarity"]) == float(weights["similarity"])
    for name in ("nli", "similarity"):
        mean = float(two.losses[name]) / float(twice_weights[name])
        assert mean == pytest.approx(float(one.losses[name]) / float(weights[name]), rel=1e-5)
    assert float(one.losses["nli"]) == pytest.approx(0.5 * float(plain.losses["nli"]), rel=1e-6)


def test_a_decoder_with_a_language_model_beside_its_head():
    """GPT-1: the last token's class, and half of the text's own cross entropy."""
    config = checks.decoder(tasks=(TaskHeadSpec("nli", "classification", ("a", "b", "c"), pool="last"),))
    loss, models = TaskHeads({"nli": "classification"}, 3, language_model=0.5), {"policy": checks.model(config)}
    fields = loss.reads({"policy": config})
    batch = {name: array for name, array in make_batch("decoder").items() if name in fields}
    sums, weights = checks.losses_of(loss, models)(batch)
    assert set(sums.losses) == {"nli", "language_model"}
    assert float(weights["language_model"]) == pytest.approx(batch["decoder_loss_weights"].sum())
    assert float(sums.losses["language_model"]) == pytest.approx(0.5 * float(sums.metrics["nll"][0]))


def test_reads_what_the_heads_need():
    config = checks.encoder(TASKS)
    fields = TaskHeads({"nli": "classification"}).reads({"policy": config})
    assert {"encoder_nli_labels", "encoder_nli_weights", "encoder_segment_ids"} <= set(fields)
    assert not {"encoder_target_tokens", "encoder_topics_labels", "encoder_piece_ids"} & set(fields)
    assert "encoder_piece_ids" in TaskHeads({"answers": "choice"}).reads({"policy": config})
    assert "encoder_target_tokens" in TaskHeads({"nli": "classification"}, language_model=1).reads({"policy": config})


def test_mt_dnn_needs_no_vocabulary_head():
    config = mt_dnn.mt_dnn("tiny", checks.VOCAB)
    assert config.head is None
    fields = TaskHeads({task.name: task.kind for task in mt_dnn.GLUE}, 4).reads({"policy": config})
    assert len([field for field in fields if field.endswith("_labels")]) == 9
    with pytest.raises(UserError, match="head=None"):
        TaskHeads({"mnli": "classification"}, language_model=0.5).reads({"policy": config})


def test_refuses():
    nli = {"nli": "classification"}
    for arguments, message in (
        (({},), "kinds is empty"),
        (({"nli": "classify"},), "is 'classify'; choose one of classification"),
        (({"quality": "reward"},), "is a reward"),
        (({"language_model": "tags"},), "the name of another term"),
        ((nli, 0), "segments is 0"),
        ((nli, 1, {"nil": 2.0}), "coefficients has 'nil'"),
    ):
        with pytest.raises(UserError, match=message):
            TaskHeads(*arguments)
    for kinds, config, message in (
        ({"mnli": "classification"}, checks.encoder(TASKS), "'mnli'; the model's task heads are nli, topics"),
        (nli, checks.decoder(), "'nli'; the model's task heads are none"),
        ({"nli": "tags"}, checks.encoder(TASKS), r"\['nli'\] is tags; the model's head is of kind classification"),
    ):
        with pytest.raises(UserError, match=message):
            TaskHeads(kinds).reads({"policy": config})
