"""Gradients of every parameter against transformers', read through the weight map: the cases that ask for it."""

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

from tests.parity import compare, pairs
from tests.parity.cases.case import all_cases

pytestmark = pytest.mark.parity
# Relative to a tensor's largest entry. Sums over 190 positions and three layers leave 2e-5 in float32.
TOLERANCE = 2e-4
CASES = {name: case for name, case in all_cases().items() if case.gradients}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    difference, tensor = compare.gradient_difference(pairs.make(CASES[name]))
    assert difference < TOLERANCE, tensor


def test_the_families_that_matter_are_among_them():
    assert {"llama-gqa", "mixtral", "t5", "bert", "switch"} <= set(CASES)
