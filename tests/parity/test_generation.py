"""Generation against transformers' generate: the same tokens, greedily and by beam search, alone and in a batch."""

import functools
import importlib.util
import itertools

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch

from t5x_style.decoding import BeamSearch, Sampling, generate, prepare, score
from t5x_style.models.specs import EncoderConfig, EncoderDecoderConfig
from tests.parity import pairs
from tests.parity.cases.case import all_cases

pytestmark = pytest.mark.parity
PROMPTS = [[5, 6, 7], [8], list(range(10, 27)), [44, 3, 91, 60, 17, 28]]


def decodes(case):
    return case.reference is None and case.max_new_tokens > 0 and case.family not in ("bert", "albert", "xlnet")


CASES = {name: case for name, case in all_cases().items() if decodes(case)}


@functools.lru_cache(maxsize=1)
def models(name):
    pair = pairs.make(CASES[name])
    if isinstance(pair.config, EncoderConfig):
        pytest.skip("an encoder generates nothing")
    return pair, prepare(pair.model)


def theirs(pair, prompts, new, eos=None, **options):
    """Their new tokens of prompts padded on the left (on the right for an encoder)."""
    width = max(map(len, prompts))
    encodes = isinstance(pair.config, EncoderDecoderConfig)
    tokens, mask = np.zeros((len(prompts), width), int), np.zeros((len(prompts), width), int)
    for row, prompt in enumerate(prompts):
        where = slice(0, len(prompt)) if encodes else slice(width - len(prompt), width)
        tokens[row, where], mask[row, where] = prompt, 1
    known = {"decoder_start_token_id": 0} if encodes else {}
    result = pair.theirs.generate(
        torch.tensor(tokens),
        attention_mask=torch.tensor(mask),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
        **known,
        **options,
    ).numpy()[:, 1 if encodes else width :]
    ends = [] if eos is None else np.atleast_1d(eos).tolist()
    return [cut(row.tolist(), ends) for row in result]


def cut(row, ends):
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]


def ours(pair, model, prompts, new, **options):
    if isinstance(pair.config, EncoderDecoderConfig):
        options["decoder_start_id"] = 0
    return generate(model, prompts, new, **options)


@pytest.mark.parametrize("name", CASES)
def test_greedy_tokens_of_a_padded_batch(name):
    pair, model = models(name)
    new = pair.case.max_new_tokens
    expected = theirs(pair, PROMPTS, new)
    assert ours(pair, model, PROMPTS, new) == expected
    assert len({tuple(row) for row in expected}) > 1  # or nothing depends on the prompt


@pytest.mark.parametrize("name", ["llama-gqa", "mistral-window", "t5"])
def test_beam_search(name):
    pair, model = models(name)
    # ids that a search meets within the length, so that hypotheses end at different steps
    frequent = np.bincount(np.concatenate(ours(pair, model, PROMPTS, 12)), minlength=99).argsort()[-3:].tolist()
    for early, penalty in itertools.product([False, True, "never"], [1.0, 0.0, -1.5, 2.0]):
        options = {"num_beams": 4, "length_penalty": penalty, "early_stopping": early}
        search = BeamSearch(4, penalty, early)
        for eos in (frequent[-1], frequent):
            expected = theirs(pair, PROMPTS, 10, eos, **options)
            assert ours(pair, model, PROMPTS, 10, eos_id=eos, beam_search=search) == expected, (options, eos)
    expected = theirs(pair, PROMPTS, 10, num_beams=4)
    assert ours(pair, model, PROMPTS, 10, beam_search=BeamSearch(4)) == expected
    alone = [ours(pair, model, [prompt], 10, beam_search=BeamSearch(4))[0] for prompt in PROMPTS]
    assert alone == expected


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


def test_decoder_prompts():
    pair, model = models("t5")
    known = {"decoder_input_ids": torch.tensor([[0, 7, 9]]), "decoder_start_token_id": 0, "eos_token_id": None}
    result = pair.theirs.generate(torch.tensor([[5, 6, 7]]), **known, max_new_tokens=9, do_sample=False)
    got = generate(model, [[5, 6, 7]], 9, decoder_start_id=0, decoder_prompts=[[7, 9]])
    assert got == [result[0, 3:].tolist()]


def test_scores_of_an_encoder_decoder():
    pair, model = models("t5")
    targets = [[7, 9, 3], [], [5], list(range(40, 60))]
    for form in (model, pair.model):
        result = score(form, PROMPTS, targets, decoder_start_id=0, batch_size=3)
        for prompt, target, got in zip(PROMPTS, targets, result.log_probs):
            with torch.no_grad():
                decoder = torch.tensor([[0, *target]])
                logits = pair.theirs(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder).logits[0]
            log_p = torch.log_softmax(logits, -1)
            expected = sum(float(log_p[i, token]) for i, token in enumerate(target))
            assert got == pytest.approx(expected, abs=2e-4)
