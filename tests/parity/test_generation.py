"""Generation against transformers' generate: beam search, penalties, end ids; scores of answers."""

import functools
import importlib.util
import itertools

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch

from t5x_style.decoding import BeamSearch, Sampling, prepare, score
from tests.parity import pairs
from tests.parity.cases.case import all_cases
from tests.parity.compare import BATCH as PROMPTS
from tests.parity.compare import our_batch as ours
from tests.parity.compare import their_batch as theirs
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
SEARCHED = ["llama-gqa", "mistral-window", "t5"]
EARLY, PENALTIES = (False, True, "never"), (1.0, 0.0, -1.5, 2.0)
RULES = [(False, 1.0), (True, 0.0), ("never", -1.5), ("never", 2.0)]  # each value once


@functools.cache
def models(name):
    """(the pair of a case with one layer, as depth is not the point here; our model prepared)."""
    case = all_cases()[name]
    one = {key: 1 for key in ("num_hidden_layers", "num_layers", "num_decoder_layers") if key in case.settings}
    pair = pairs.make(case._replace(settings={**case.settings, **one}))
    return pair, prepare(pair.model)


def check_beams(name, rules, ends):
    """Beam searches of the batch by (early_stopping, length_penalty), with as many end ids as `ends` says."""
    pair, model = models(name)
    # ids that a search meets within the length, so that hypotheses end at different steps
    frequent = np.bincount(np.concatenate(theirs(pair, PROMPTS, 12)), minlength=99).argsort()[-3:].tolist()
    for early, penalty in rules:
        options = {"num_beams": 4, "length_penalty": penalty, "early_stopping": early}
        search = BeamSearch(4, penalty, early)
        for count in ends:
            eos = frequent[-1] if count == 1 else frequent[-count:]
            expected = theirs(pair, PROMPTS, 10, eos, **options)
            assert ours(pair, model, PROMPTS, 10, eos_id=eos, beam_search=search) == expected, (options, eos)


@pytest.mark.parametrize("name", slow_except(SEARCHED, "llama-gqa"))
def test_beam_search(name):
    check_beams(name, RULES, [3])


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHED)
def test_beam_search_by_every_rule(name):
    check_beams(name, itertools.product(EARLY, PENALTIES), [1, 3])


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHED)
def test_beam_search_of_one_prompt_and_of_a_batch(name):
    pair, model = models(name)
    expected = theirs(pair, PROMPTS, 10, num_beams=4)
    assert ours(pair, model, PROMPTS, 10, beam_search=BeamSearch(4)) == expected
    alone = [ours(pair, model, [prompt], 10, beam_search=BeamSearch(4))[0] for prompt in PROMPTS]
    assert alone == expected


def test_penalties_together():
    pair, model = models("llama-gqa")
    prompt = [[5, 6, 7, 5, 6, 9, 5]]
    eos = theirs(pair, prompt, 8)[0][2]
    names = {"no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "min_new_tokens": 6, "num_beams": 3}
    expected = theirs(pair, prompt, 20, eos, **names)
    options = {"sampling": Sampling(no_repeat_ngram=2, repetition_penalty=1.2), "beam_search": BeamSearch(3)}
    assert ours(pair, model, prompt, 20, eos_id=eos, min_new_tokens=6, **options) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama-gqa", "t5"])
@pytest.mark.parametrize("beams", [1, 3])
def test_penalties_and_shortest_lengths(name, beams):
    pair, model = models(name)
    search = None if beams == 1 else BeamSearch(beams)
    prompt = [[5, 6, 7, 5, 6, 9, 5]]
    for sampling, names in (
        (Sampling(repetition_penalty=1.7), {"repetition_penalty": 1.7}),
        (Sampling(repetition_penalty=0.6), {"repetition_penalty": 0.6}),
        (Sampling(no_repeat_ngram=1), {"no_repeat_ngram_size": 1}),
        (Sampling(no_repeat_ngram=2, repetition_penalty=1.2), {"no_repeat_ngram_size": 2, "repetition_penalty": 1.2}),
    ):
        expected = theirs(pair, prompt, 20, num_beams=beams, **names)
        assert ours(pair, model, prompt, 20, sampling=sampling, beam_search=search) == expected, names
    eos = theirs(pair, prompt, 8)[0][2]
    expected = theirs(pair, prompt, 12, eos, num_beams=beams, min_new_tokens=6)
    assert ours(pair, model, prompt, 12, eos_id=eos, min_new_tokens=6, beam_search=search) == expected


@pytest.mark.parametrize("form", slow_except(["stacked", "prepared"], "prepared"))
def test_scores_of_an_encoder_decoder(form):
    pair, prepared = models("t5")
    targets = [[7, 9, 3], [], [5], list(range(40, 60))]
    model, size = (prepared, 4) if form == "prepared" else (pair.model, 3)
    result = score(model, PROMPTS, targets, decoder_start_id=0, batch_size=size)
    for prompt, target, got in zip(PROMPTS, targets, result.log_probs):
        with torch.no_grad():
            decoder = torch.tensor([[0, *target]])
            logits = pair.theirs(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder).logits[0]
        log_p = torch.log_softmax(logits, -1)
        expected = sum(float(log_p[i, token]) for i, token in enumerate(target))
        assert got == pytest.approx(expected, abs=2e-4)
