"""Schedules against values worked out by hand, and their limits."""

import math

import pytest

from t5x_style.errors import UserError
from t5x_style.training import schedules


def test_cosine():
    schedule = schedules.Cosine(peak=2.0, steps=110, warmup_steps=10, final_fraction=0.1)
    assert schedule(0) == 0
    assert schedule(5) == pytest.approx(1.0)
    assert schedule(10) == pytest.approx(2.0)
    assert schedule(60) == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
    assert schedule(110) == pytest.approx(0.2)
    assert schedule(1000) == pytest.approx(0.2)


def test_linear_and_constant():
    linear = schedules.Linear(peak=1.0, steps=20, warmup_steps=0)
    assert linear(0) == 1.0
    assert linear(15) == pytest.approx(0.25)
    assert linear(99) == 0.0
    constant = schedules.Constant(peak=0.5, warmup_steps=4)
    assert [float(constant(step)) for step in (0, 1, 4, 400)] == [0.0, 0.125, 0.5, 0.5]


def test_inverse_sqrt():
    schedule = schedules.InverseSqrt(peak=1e-2, warmup_steps=100)
    assert schedule(50) == pytest.approx(5e-3)
    assert schedule(100) == pytest.approx(1e-2)
    assert schedule(400) == pytest.approx(1e-2 * math.sqrt(100 / 400))


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Cosine(peak=1.0, steps=10, warmup_steps=10),
        lambda: schedules.Linear(peak=-1.0, steps=10),
        lambda: schedules.Constant(peak=1.0, warmup_steps=-1),
        lambda: schedules.InverseSqrt(peak=1.0, warmup_steps=0),
    ],
)
def test_bad_values(make):
    with pytest.raises(UserError):
        make()
