"""DPO on packed pairs against pairs taken out of their rows one by one; its formulas; pairs that are not whole."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.dpo import DPO, pairs_of, preference_loss
from t5x_style.losses.forward import forward
from t5x_style.losses.loss import ModelSource, Sums
from tests.losses import checks

pytestmark = pytest.mark.usefixtures("quick_to_compile")
# two pairs, a pair and a segment alone, one pair of a long and a short answer
SEGMENTS = np.array(
    [[1] * 3 + [2] * 4 + [3] * 3 + [4] * 3 + [0], [1] * 4 + [2] * 5 + [3] * 4 + [0], [1] * 10 + [2] * 3 + [0]]
)
PAIRS = [(0, 1), (0, 3), (1, 1), (2, 1)]  # (row, id of the chosen segment)


def make_batch(side="decoder"):
    """Prompts of one token each; a weight of .5 somewhere in an answer."""
    batch = checks.batch(side, SEGMENTS)
    batch[f"{side}_loss_weights"] = ((SEGMENTS > 0) & (batch[f"{side}_positions"] > 0)).astype(np.float32)
    batch[f"{side}_loss_weights"][2, 4] = 0.5
    return batch


BATCH = make_batch()
# weights [P, B, L] of the chosen and of the rejected answer of each pair
ANSWERS = [
    np.stack(
        [
            BATCH["decoder_loss_weights"] * (first + k == SEGMENTS) * (np.arange(3) == row)[:, None]
            for row, first in PAIRS
        ]
    )
    for k in (0, 1)
]


def models(config=None):
    config = config or checks.decoder()
    return {"policy": checks.model(config), "reference": checks.model(config, 1)}


def one_by_one(loss):
    """The definition over [B, L, V], a mask a pair."""

    def naive(models, batch, now):
        log_p = {}
        for name, model in models.items():
            passed = forward(model, batch)
            all_ids = jax.nn.log_softmax(model.head.logits(passed.hidden)[..., : checks.VOCAB])
            log_p[name] = jnp.take_along_axis(all_ids, passed.targets[..., None], axis=-1)[..., 0]
        ratio = log_p["policy"] - jax.lax.stop_gradient(log_p["reference"])
        chosen, rejected = (jnp.sum(w * ratio, axis=(1, 2)) for w in ANSWERS)
        if loss.kind in ("ipo", "sigmoid_norm"):
            chosen, rejected = (value / w.sum(axis=(1, 2)) for value, w in zip((chosen, rejected), ANSWERS))
        h, e, beta = chosen - rejected, loss.label_smoothing, loss.beta
        right, wrong = (jnp.log1p(jnp.exp(-sign * beta * h)) for sign in (1, -1))
        each = {
            "sigmoid": (1 - e) * right + e * wrong,
            "sigmoid_norm": (1 - e) * right + e * wrong,
            "robust": ((1 - e) * right - e * wrong) / (1 - 2 * e),
            "hinge": jnp.maximum(0, 1 - beta * h),
            "ipo": (h - 1 / (2 * beta)) ** 2,
        }[loss.kind]
        return Sums({"dpo": jnp.sum(each)}, {"accuracy": (jnp.sum(h > 0), len(PAIRS))})

    return naive


@pytest.mark.parametrize(
    "loss",
    [
        DPO(pairs=3),
        pytest.param(DPO(pairs=2, beta=0.5, label_smoothing=0.1), marks=pytest.mark.slow),
        pytest.param(DPO(pairs=2, kind="sigmoid_norm", beta=5.0), marks=pytest.mark.slow),
        pytest.param(DPO(pairs=2, kind="robust", label_smoothing=0.2), marks=pytest.mark.slow),
        pytest.param(DPO(pairs=2, kind="hinge", beta=0.3), marks=pytest.mark.slow),
        DPO(pairs=2, kind="ipo", beta=0.2),
    ],
    ids=lambda loss: f"{loss.kind}-{loss.label_smoothing}",
)
def test_equals_pairs_taken_one_by_one(loss):
    run = checks.program(loss, models())
    found = run(BATCH)
    expected = checks.program(loss, models(), one_by_one(loss))(BATCH)
    checks.assert_equal(found, expected, rtol=1e-4)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(found[2]["reference"]))
    assert float(found[1]["dpo"]) == len(PAIRS)
    assert found[0].metrics["accuracy"] == expected[0].metrics["accuracy"]
    assert found[0].metrics["unpaired"] == (1, 9)
    margin, chosen, rejected = (float(found[0].metrics[n][0]) for n in ("margin", "chosen_reward", "rejected_reward"))
    assert margin == pytest.approx(chosen - rejected, rel=1e-4)
    learned = run.descend(BATCH, 10, 0.01)
    assert float(learned.losses["dpo"]) < 0.7 * float(found[0].losses["dpo"])
    assert float(learned.metrics["accuracy"][0]) == len(PAIRS)


def test_accumulates_and_no_pairs_give_nothing():
    loss = DPO(pairs=2)
    checks.assert_accumulates(loss, models(), BATCH)
    checks.assert_nothing(loss, models(), {**BATCH, "decoder_loss_weights": 0 * BATCH["decoder_loss_weights"]})


def test_at_the_start_the_loss_is_log_2_with_a_gradient():
    """The same module as both: the reference's part of the gradient would cancel the policy's."""
    same = dict.fromkeys(("policy", "reference"), checks.model(checks.decoder()))
    sums, weights, gradient = checks.program(DPO(pairs=2), same)(BATCH)
    assert float(sums.losses["dpo"] / weights["dpo"]) == pytest.approx(np.log(2), rel=1e-6)
    assert sums.metrics["accuracy"][0] == 0
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient["policy"]))


def test_an_encoder_decoder_has_pairs_too():
    config, loss = checks.encoder_decoder(), DPO(pairs=2)
    batch = {**make_batch(), **checks.batch("encoder", SEGMENTS)}
    batch = {name: batch[name] for name in loss.reads({"policy": config, "reference": config})}
    found, expected = (checks.losses_of(each, models(config))(batch) for each in (loss, OneByOne(pairs=2)))
    assert float(found[0].losses["dpo"]) == pytest.approx(float(expected[0].losses["dpo"]), rel=1e-5)


class OneByOne(DPO):
    """The definition in the loss's clothes."""

    def __call__(self, models, batch, now):
        return one_by_one(self)(models, batch, now)


def test_what_is_a_pair():
    ids = np.array([[1, 1, 2, 3, 0, 0], [1, 2, 3, 4, 5, 6], [1, 1, 2, 2, 3, 4]])
    weights = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 1], [0, 1, 0, 0, 1, 1]], np.float32)
    found = pairs_of({"decoder_segment_ids": ids, "decoder_loss_weights": weights}, 2)
    # row 0: the third segment is alone; row 1: the second pair has an empty answer, the third is one too many
    np.testing.assert_array_equal(found.present, [[1, 0], [1, 0], [0, 1]])
    assert (float(found.unpaired), float(found.segments)) == (1 + 4 + 2, 3 + 6 + 4)


def test_the_worked_example():
    found = preference_loss(jnp.array([0.8, -0.2]), 0.1, "sigmoid")
    np.testing.assert_allclose(found, [0.6539, 0.7032], atol=1e-4)
    assert float(preference_loss(jnp.float32(4), 0.5, "hinge")) == 0
    assert float(preference_loss(jnp.float32(4), 0.5, "ipo")) == 9
    assert np.isfinite(preference_loss(jnp.float32(-1e6), 0.1, "sigmoid"))
    # of a pair that is right with probability 1 - e the robust loss is on average the loss of a right one
    right, wrong = (preference_loss(jnp.float32(sign * 0.8), 0.1, "robust", 0.2) for sign in (1, -1))
    assert float(0.8 * right + 0.2 * wrong) == pytest.approx(0.6539, abs=1e-4)
    conservative = preference_loss(jnp.float32(0.8), 0.1, "sigmoid", 0.2)
    assert float(conservative) == pytest.approx(0.8 * 0.6539 + 0.2 * 0.7339, abs=1e-4)


def test_scores_of_all_tokens_never_exist():
    segments = np.repeat([[1] * 64 + [2] * 64], 8, axis=0)
    text = checks.program(DPO(), models(checks.decoder(multiple=12))).lower(checks.batch("decoder", segments))
    shapes = [tuple(map(int, d.split(","))) for d in re.findall(r"f32\[([\d,]+)\]", text.compile().as_text())]
    assert [s for s in shapes if s[-1] == 72 and np.prod(s[:-1]) == 16]  # chunks are there
    assert [s for s in shapes if s[-1] in (61, 72) and np.prod(s[:-1]) > 16] == []


def test_refuses():
    for changes, message in (
        ({"kind": "kto"}, "kind is 'kto'; choose one of sigmoid"),
        ({"beta": 0.0}, "beta is 0.0"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"label_smoothing": 0.1, "kind": "ipo"}, "no meaning for kind ipo"),
        ({"pairs": 0}, "pairs is 0"),
    ):
        with pytest.raises(UserError, match=message):
            DPO(**changes)
    assert DPO().models() == {"reference": ModelSource()}
    policy = checks.decoder()
    with pytest.raises(UserError, match="an encoder does not give"):
        DPO().reads({"policy": checks.encoder(), "reference": checks.encoder()})
    with pytest.raises(UserError, match="DPO: the reference is a EncoderConfig"):
        DPO().reads({"policy": policy, "reference": checks.encoder()})
