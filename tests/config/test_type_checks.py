"""Values against type hints."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest

from t5x_style.config import check_types
from t5x_style.config.type_checks import ANYTHING, ToBeMade, fits, name_of


@dataclasses.dataclass(frozen=True)
class Loss:
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class OwnLoss(Loss):
    name: str = "own"


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [1, -3], [True, 1.0, "1", None]),
        (float, [1, 1.5], [False, "1.5", None]),
        (str | None, ["a", None], [1, b"a"]),
        (bool, [True], [1]),
        (tuple[int, int], [(1, 2), [1, 2]], [(5,), (1, 2, 3), (1, "a"), 5]),
        (tuple[int, ...], [(), (1,), (1, 2, 3)], [("a",), 1]),
        (tuple[tuple[str, int], ...], [(("a", 1),)], [(("a", "b"),), ("a", 1)]),
        (tuple, [(), (1, "a")], [1]),
        (Sequence[str], [["a"], ("a",)], ["a", [1]]),
        (list[int], [[1], (1,)], [[1.5]]),
        (Mapping[str, float], [{}, {"a": 1.0}, {"a": 1}], [[1, 2], {1: 1.0}, {"a": "b"}]),
        (dict[str, tuple[int, int]], [{"a": (1, 2)}], [{"a": (1,)}]),
        (Mapping[str, Loss], [{"a": OwnLoss()}], [{"a": 1}]),
        (str | Mapping[str, str] | None, ["a", {"a": "b"}, None], [["a"], {"a": 1}]),
        (tuple[str, ...] | None, [("a",), None], ["a"]),
        (Loss, [Loss(), OwnLoss(), ToBeMade(OwnLoss), ANYTHING], [1, None, Loss, ToBeMade(int)]),
        (Loss | None, [None, ToBeMade(Loss)], ["x", ToBeMade(str)]),
        (Callable[[int], int], [abs, Loss], [3, ToBeMade(Loss)]),
        (tuple[Loss, ...], [(ToBeMade(OwnLoss),)], [(ToBeMade(int),), ToBeMade(Loss)]),
        (Literal["a", "b"], ["a"], ["c"]),
        (Any, [1, None], []),
    ],
)
def test_fits(hint, good, bad):
    for value in good:
        assert fits(value, hint), value
    for value in bad:
        assert not fits(value, hint), value


def test_hints_are_named_as_users_write_them():
    assert name_of(Mapping[str, float] | None) == "dict[str, float] | None"
    assert name_of(Sequence[Loss]) == "list[Loss]"
    assert name_of(tuple[int, int]) == "tuple[int, int]"


@dataclasses.dataclass(frozen=True)
class Run:
    losses: Mapping[str, Loss]
    parts: tuple[Loss, ...] = ()
    build: Callable[[int], int] = abs


def test_trees_are_followed_through_containers():
    wrong = OwnLoss(weight="heavy")
    messages = list(check_types(Run({"kl": wrong}, (Loss(), wrong)), "Run"))
    assert messages == [
        "Run.losses['kl'].weight is 'heavy', must be float",
        "Run.parts[1].weight is 'heavy', must be float",
    ]
    assert list(check_types(Run({"kl": Loss()}), "Run")) == []
