"""Every case of tests/parity/cases: equal logits and greedy tokens, weights there and back to the bit, configs too."""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

from t5x_style.models.specs import EncoderConfig
from tests.parity import compare, pairs
from tests.parity.cases.case import all_cases

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
CASES = all_cases()


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    return pairs.make(CASES[request.param])


def test_logits_and_weights(pair):
    ours, expected = pairs.logits(pair)
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 1  # or a model of zeros would pass
    compare.exported(pair)


def test_greedy_tokens(pair):
    if not compare.generates(pair):
        pytest.skip("no model that continues tokens")
    assert compare.our_tokens(pair) == compare.their_tokens(pair)


def test_an_encoder_is_no_decoder():
    pair = pairs.make(CASES["bert"])
    assert isinstance(pair.config, EncoderConfig)
    tokens = np.random.default_rng(0).integers(3, 99, (1, 12))
    changed = tokens.copy()
    changed[0, -1] = 5 if tokens[0, -1] != 5 else 6
    first, second = (pair.model(jnp.asarray(value))[0, 0] for value in (tokens, changed))
    assert float(jnp.abs(first - second).max()) > 1e-4  # the first token sees the last
