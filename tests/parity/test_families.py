"""Every case of tests/parity/cases: equal logits, gradients and greedy tokens; weights there and back to the bit."""

import importlib.util

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch

from t5x_style.models.specs import EncoderConfig
from tests.parity import compare, pairs
from tests.parity.cases.case import all_cases
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
CASES = all_cases()
FIRST = {case.family: name for name, case in reversed(CASES.items())}  # one a family
# Relative to a tensor's largest entry: sums over 190 positions and three layers leave 2e-5 in float32.
GRADIENTS = {name: case for name, case in CASES.items() if case.gradients}
CONTINUED = [name for name, case in CASES.items() if case.family not in ("bert", "albert")]
# Several at once: those that transformers has, XLNet aside, whose padding is on the other side.
BATCHED = [name for name in CONTINUED if CASES[name].reference is None and CASES[name].family != "xlnet"]


@pytest.mark.parametrize("name", slow_except(list(CASES), *FIRST.values(), "mixtral"))
def test_logits_and_weights(name):
    pair = pairs.shared(name)
    ours, expected = pairs.logits(pair)
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 1  # or a model of zeros would pass
    compare.exported(pair)


@pytest.mark.parametrize("name", slow_except(list(GRADIENTS), "t5", "bert"))
def test_gradients(name):
    difference, tensor = compare.gradient_difference(pairs.shared(name))
    assert difference < TOLERANCE, tensor


def test_gradients_of_the_families_that_matter_are_compared():
    assert {"llama-gqa", "mixtral", "t5", "bert", "switch"} <= set(GRADIENTS)


@pytest.mark.parametrize("name", slow_except(CONTINUED, "llama-gqa", "t5"))
def test_greedy_tokens(name):
    pair = pairs.shared(name)
    assert compare.our_tokens(pair) == compare.their_tokens(pair)


@pytest.mark.parametrize("name", slow_except(BATCHED, "llama-gqa", "t5"))
def test_greedy_tokens_of_a_padded_batch(name):
    pair, new = pairs.shared(name), CASES[name].max_new_tokens
    expected = compare.their_batch(pair, compare.BATCH, new)
    assert compare.our_batch(pair, pair.model, compare.BATCH, new) == expected
    assert len({tuple(row) for row in expected}) > 1  # or nothing depends on the prompt


@pytest.mark.slow
def test_decoder_prompts():
    pair, count = pairs.shared("t5"), len(compare.BATCH)
    decoder = {"decoder_input_ids": torch.tensor([[0, 7, 9]] * count), "decoder_start_token_id": 0}
    tokens, mask = np.zeros((count, 17), int), np.zeros((count, 17), int)
    for row, prompt in enumerate(compare.BATCH):
        tokens[row, : len(prompt)], mask[row, : len(prompt)] = prompt, 1
    known = {**decoder, "attention_mask": torch.tensor(mask), "eos_token_id": None}
    expected = pair.theirs.generate(torch.tensor(tokens), **known, max_new_tokens=9, do_sample=False)[:, 3:].tolist()
    prompts = [[7, 9]] * count
    assert compare.our_batch(pair, pair.model, compare.BATCH, 9, decoder_prompts=prompts) == expected
    assert len({tuple(row) for row in expected}) > 1


def test_an_encoder_is_no_decoder():
    pair = pairs.shared("bert")
    assert isinstance(pair.config, EncoderConfig)
    tokens = np.random.default_rng(0).integers(3, 99, (1, 12))
    changed = tokens.copy()
    changed[0, -1] = 5 if tokens[0, -1] != 5 else 6
    first, second = (pairs.our_logits(pair, value)[0, 0] for value in (tokens, changed))
    assert np.abs(first - second).max() > 1e-4  # the first token sees the last
