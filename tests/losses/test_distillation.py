"""A student of another width and table learns from a teacher: dense formulas, accumulation, no [B, L, V]."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.distillation import Distillation, divergence
from t5x_style.losses.forward import forward
from t5x_style.losses.loss import ModelSource, Sums
from tests.losses import checks

pytestmark = pytest.mark.usefixtures("quick_to_compile")
SEGMENTS = [[1] * 7 + [2] * 3 + [0] * 2, [1] * 12, [1, 1, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0]]
TEACHER = ModelSource("somewhere")


def dense(loss):
    """The definition, over [B, L, V]."""

    def kl(a, b):
        return jnp.sum(a * (jnp.log(a) - jnp.log(b)), axis=-1)

    def naive(models, batch, now):
        ours, theirs = (forward(models[name], batch) for name in ("policy", "teacher"))
        scores = models["policy"].head.logits(ours.hidden)[..., : checks.VOCAB]
        taught = jax.lax.stop_gradient(models["teacher"].head.logits(theirs.hidden)[..., : checks.VOCAB])
        q, p = jax.nn.softmax(scores / loss.temperature), jax.nn.softmax(taught / loss.temperature)
        m = loss.mixture * p + (1 - loss.mixture) * q
        mixed = loss.mixture * kl(p, m) + (1 - loss.mixture) * kl(q, m)
        apart = {"forward_kl": kl(p, q), "reverse_kl": kl(q, p), "jsd": mixed}[loss.kind]
        nll = -jnp.take_along_axis(jax.nn.log_softmax(scores), ours.targets[..., None], axis=-1)[..., 0]
        terms = {"distillation": (1 - loss.alpha) * loss.temperature**2 * apart, "cross_entropy": loss.alpha * nll}
        return Sums({name: jnp.sum(ours.weights * value) for name, value in terms.items()}, {})

    return naive


def models(student=None, teacher=None):
    return {
        "policy": checks.model(student or checks.decoder()),
        "teacher": checks.model(teacher or checks.decoder(width=24, multiple=8, tied_embeddings=True), 1),
    }


@pytest.mark.parametrize(
    "loss",
    [
        Distillation(TEACHER, temperature=2.0, alpha=0.3),
        pytest.param(
            Distillation(TEACHER, temperature=0.7, alpha=0.0, kind="reverse_kl"),
            marks=pytest.mark.slow,
            id="reverse_kl",
        ),
        Distillation(TEACHER, temperature=1.5, alpha=0.1, kind="jsd", mixture=0.3),
    ],
    ids=lambda loss: loss.kind,
)
def test_equals_the_dense_formula(loss):
    batch = checks.batch("decoder", SEGMENTS)
    found = checks.program(loss, models())(batch)
    checks.assert_equal(found, checks.program(loss, models(), dense(loss))(batch))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found[2]["teacher"]))


def test_accumulates_and_an_empty_batch_gives_nothing():
    loss, batch = Distillation(TEACHER), checks.batch("decoder", SEGMENTS)
    checks.assert_accumulates(loss, models(), batch)
    checks.assert_nothing(loss, models(), {**batch, "decoder_loss_weights": 0 * batch["decoder_loss_weights"]})


@pytest.mark.parametrize("kind", ["encoder", "encoder_decoder"])
def test_other_kinds_of_models(kind):
    loss = Distillation(TEACHER)
    config = {"encoder": checks.encoder(), "encoder_decoder": checks.encoder_decoder()}[kind]
    both = models(config, config)
    batch = {**checks.batch("encoder", SEGMENTS)}
    if kind == "encoder_decoder":
        batch |= checks.batch("decoder", SEGMENTS, seed=1)
    batch = {name: array for name, array in batch.items() if name in loss.reads({"policy": config, "teacher": config})}
    found, expected = (checks.losses_of(each, both)(batch) for each in (loss, Dense(TEACHER)))
    for name, value in expected[0].losses.items():
        assert float(found[0].losses[name]) == pytest.approx(float(value), rel=1e-5)


class Dense(Distillation):
    """The definition in the loss's clothes."""

    def __call__(self, models, batch, now):
        return dense(self)(models, batch, now)


def test_the_worked_example():
    f = divergence(2, "forward_kl", 2.0)
    # two ids of a table padded to four
    student, teacher = jnp.array([[0.0, 0.0, -1e9, -1e9]]), jnp.array([[2.0, 0.0, -1e9, -1e9]])
    found, gradient = jax.value_and_grad(lambda s: f((s,), (teacher,), jnp.array([0]))[0][0] * 4)(student)
    assert float(found) == pytest.approx(0.4438, abs=1e-4)
    np.testing.assert_allclose(gradient, [[-0.4621, 0.4621, 0, 0]], atol=1e-4)


def test_scores_of_all_tokens_never_exist():
    """[B, L, V] of 8 rows and 128 tokens would be two chunks of scores; no other array has 72 or 66 columns."""
    loss, batch = Distillation(TEACHER), checks.batch("decoder", np.ones((8, 128)))
    both = models(checks.decoder(multiple=12), checks.decoder(width=24, multiple=11))
    text = checks.program(loss, both).lower(batch).compile().as_text()
    shapes = [tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)]
    assert [s for s in shapes if s[-1] == 72 and np.prod(s[:-1]) == 16]  # chunks are there
    assert [s for s in shapes if s[-1] in (61, 66, 72) and np.prod(s[:-1]) > 16] == []


def test_refuses():
    for changes, message in (
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"kind": "kl"}, "kind is 'kl'; choose one of forward_kl"),
        ({"mixture": 1.0}, "mixture is 1.0"),
    ):
        with pytest.raises(UserError, match=message):
            Distillation(TEACHER, **changes)
    loss, policy = Distillation(TEACHER), checks.decoder()
    for teacher, message in (
        (checks.encoder(), "the teacher is a EncoderConfig and the model a DecoderConfig"),
        (checks.decoder(head=None), "the teacher has head=None"),
        (checks.decoder(vocab_size=62), "the teacher has 62 vocabulary ids and the model 61"),
    ):
        with pytest.raises(UserError, match=message):
            loss.reads({"policy": policy, "teacher": teacher})
    assert loss.models() == {"teacher": TEACHER}
