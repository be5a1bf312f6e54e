"""A loss of a user's own with a mistake in it: one line before anything is compiled or written."""

import dataclasses

import jax.numpy as jnp
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.loss import Sums
from t5x_style.models.presets import llama
from t5x_style.training.setup import set_up
from tests.training.hand_made import packed
from tests.training.test_kinds import run_of


@dataclasses.dataclass(frozen=True)
class Own(CrossEntropy):
    """Cross-entropy, spoilt by `mistake`."""

    mistake: str = ""

    def reads(self, configs):
        found = super().reads(configs)
        return {
            "text": "decoder_input_tokens",
            "nothing": None,
            "typo": (*found, "decoder_loss_wieghts"),
        }.get(self.mistake, found)

    def weights(self, batch):
        if self.mistake == "weight field":
            return {"cross_entropy": jnp.sum(batch["decoder_loss_wieghts"])}
        if self.mistake == "weight vector":
            return {"cross_entropy": batch["decoder_loss_weights"]}
        return super().weights(batch)

    def __call__(self, models, batch, now):
        sums = super().__call__(models, batch, now)
        value, weight = sums.losses["cross_entropy"], batch["decoder_loss_weights"]
        return {
            "no weight": lambda: Sums({"mine": value}, {}),
            "vector": lambda: Sums({"cross_entropy": value + weight}, {}),
            "tuple": lambda: ({"cross_entropy": value}, {}),
            "no term": lambda: Sums({}, {}),
            "metric": lambda: Sums(sums.losses, {"nll": value}),
            "flag": lambda: Sums(sums.losses, {"nll": (value, value > 0)}),
            "raises": lambda: Sums(sums.losses, {"nll": batch["nothing"]}),
        }.get(self.mistake, lambda: sums)()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("text", r"Own.reads gives 'decoder_input_tokens'; it must give a tuple of field names"),
        ("nothing", r"Own.reads gives None; it must give a tuple"),
        ("typo", r"Own reads decoder_loss_wieghts, which the objective HandMade does not make; did you mean "),
        ("weight field", r"Own fails: KeyError: 'decoder_loss_wieghts' \(.*test_check_loss.py, line \d+\)"),
        ("weight vector", r"the weight of the term 'cross_entropy' has shape \(4, 16\); it must be a sum"),
        ("no weight", r"Own gives a term 'mine' that its weights\(\) does not name; it names cross_entropy, router"),
        ("vector", r"the term 'cross_entropy' has shape \(4, 16\); it must be a sum"),
        ("tuple", r"Own gives a tuple; it must give Sums\(losses, metrics\)"),
        ("no term", r"Own gives no term"),
        ("metric", r"the metric 'nll' must be a pair \(sum, weight\)"),
        ("flag", r"the metric 'nll' has a part that is no number"),
        ("raises", r"Own fails: KeyError: 'nothing' \(.*test_check_loss.py, line \d+\)"),
    ],
)
def test_mistakes_are_one_line(tmp_path, mistake, message):
    config = llama.llama(96, 8, 1, 2, 1)
    with pytest.raises(UserError, match=message) as caught:
        set_up(run_of(tmp_path, packed(96), model=config, loss=Own(mistake=mistake)))
    assert "\n" not in str(caught.value)
