"""Losses against torch's own and those of transformers' classes: smoothing, distillation, task heads, DPO."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch
from torch.nn import functional

from t5x_style.losses.distillation import divergence
from t5x_style.losses.dpo import preference_loss
from t5x_style.losses.label_smoothing import smoothed
from t5x_style.losses.loss import Now
from t5x_style.losses.task_heads import TaskHeads
from tests.parity import pairs
from tests.parity.fast import slow_except
from tests.parity.test_task_heads import CASES

pytestmark = pytest.mark.parity
TOKENS, VOCAB, PADDED = 40, 11, 16


def scores(seed):
    """Scores of a vocabulary of 11 ids padded to 16, and the 11 as torch has them."""
    real = np.random.default_rng(seed).normal(0, 2, (TOKENS, VOCAB)).astype(np.float32)
    padded = np.pad(real, ((0, 0), (0, PADDED - VOCAB)), constant_values=-1e9)
    return jnp.asarray(padded), torch.tensor(real, requires_grad=True)


def compare(found, expected, student):
    """(value, gradient) of ours with a torch scalar and the gradient of its leaf."""
    expected.backward()
    np.testing.assert_allclose(found[0], expected.item(), rtol=1e-5)
    gradient = found[1][:, :VOCAB] if found[1].ndim == 2 else found[1]
    np.testing.assert_allclose(gradient, student.grad.numpy(), atol=2e-6)


def test_label_smoothing():
    ours, theirs = scores(0)
    targets = np.random.default_rng(1).integers(0, VOCAB, TOKENS)
    f = smoothed(VOCAB, 0.1)
    found = jax.value_and_grad(lambda s: jnp.mean(f((s,), (), targets)[0]))(ours)
    compare(found, functional.cross_entropy(theirs, torch.tensor(targets), label_smoothing=0.1), theirs)


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl"])
def test_distillation(kind):
    (ours, theirs), (taught, teacher) = scores(0), scores(2)
    f = divergence(VOCAB, kind, 2.0)
    found = jax.value_and_grad(lambda s: jnp.mean(f((s,), (taught,), jnp.zeros(TOKENS, int))[0]) * 4)(ours)
    student_log, teacher_log = (functional.log_softmax(s / 2, dim=-1) for s in (theirs, teacher.detach()))
    both = (student_log, teacher_log) if kind == "forward_kl" else (teacher_log, student_log)
    compare(found, functional.kl_div(*both, reduction="batchmean", log_target=True) * 4, theirs)


@pytest.mark.parametrize("kind", ["sigmoid", "robust", "hinge", "ipo"])
def test_dpo(kind):
    """The formulas as the papers and trl have them, in torch's double precision."""
    h = np.random.default_rng(0).normal(0, 8, 50)
    beta, e = 0.3, 0.0 if kind in ("hinge", "ipo") else 0.2
    theirs = torch.tensor(h, requires_grad=True)
    right, wrong = functional.logsigmoid(beta * theirs), functional.logsigmoid(-beta * theirs)
    expected = {
        "sigmoid": -right * (1 - e) - wrong * e,
        "robust": (-right * (1 - e) + wrong * e) / (1 - 2 * e),
        "hinge": torch.relu(1 - beta * theirs),
        "ipo": (theirs - 1 / (2 * beta)) ** 2,
    }[kind].mean()
    found = jax.value_and_grad(lambda h: jnp.mean(preference_loss(h, beta, kind, e)))(jnp.asarray(h, jnp.float32))
    compare(found, expected, theirs)


LABELS = {
    "classification": np.array([1, 0, 4], np.int32),
    "multi_label": np.random.default_rng(0).integers(0, 2, (3, 5)).astype(np.float32),
    "regression": np.array([0.3, -1.2, 2.5], np.float32),
    "choice": np.array([2, 0, 1], np.int32),
    "span": np.array([[3, 9], [0, 0], [11, 40]], np.int32),
    "tags": np.random.default_rng(0).integers(-1, 5, (3, pairs.LENGTH)).astype(np.int32),
}
HEADS = {name: (head.task, head) for name, head in CASES.items() if name.startswith("Bert") and head.task in LABELS}


@pytest.mark.parametrize(
    ("task", "head"), slow_except(HEADS, "BertForQuestionAnswering-span", "BertForMultipleChoice-choice")
)
def test_task_heads(task, head):
    pair = pairs.make(head.case)
    rows, labels = pairs.batch(pair), LABELS[task]
    if task == "span":  # theirs takes padding for possible answers, ours does not: rows without any
        rows = rows._replace(mask=np.ones_like(rows.mask))
    theirs = pairs.their_inputs(pair, rows)
    batch = ours(rows, task, labels)
    if task == "span":
        theirs |= {
            "start_positions": torch.tensor(labels[:, 0]).long(),
            "end_positions": torch.tensor(labels[:, 1]).long(),
        }
    elif task == "tags":
        theirs["labels"] = torch.tensor(np.where((labels < 0) | (rows.mask == 0), -100, labels)).long()
    elif task == "choice":  # three choices of 20 tokens a row: ours are segments of it
        theirs = {name: value[:, :60].contiguous().view(3, 3, 20) for name, value in theirs.items()}
        theirs["labels"] = torch.tensor(labels).long()
    else:
        theirs["labels"] = torch.tensor(labels).long() if labels.dtype == np.int32 else torch.tensor(labels)
    loss = TaskHeads({task: pair.config.tasks[0].kind}, segments=3)
    sums = pairs.run(lambda model, batch: loss({"policy": model}, batch, Now(jnp.int32(0))), pair.model, batch)
    with torch.no_grad():
        expected = pair.theirs(**theirs).loss.item()
    assert float(sums.losses[task] / loss.weights(batch)[task]) == pytest.approx(expected, rel=2e-4)


def ours(rows, task, labels):
    """Fields of the rows; each is a segment, or three of 20 tokens for choices."""
    columns = np.broadcast_to(np.arange(rows.tokens.shape[1]), rows.tokens.shape)
    segments, positions = rows.mask, columns
    if task == "choice":
        segments, positions = rows.mask * np.where(columns < 60, columns // 20 + 1, 0), columns % 20
        labels = (segments - 1 == labels[:, None]).astype(np.int32)
    elif task != "tags":
        labels = np.repeat(labels[:, None], rows.tokens.shape[1], axis=1)
    fields = {
        "input_tokens": rows.tokens,
        "segment_ids": segments,
        "positions": positions,
        "token_types": rows.types,
        f"{task}_labels": labels,
        f"{task}_weights": np.ones(rows.tokens.shape, np.float32),
    }
    return {f"encoder_{name}": jnp.asarray(value) for name, value in fields.items()}
