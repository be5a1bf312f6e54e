"""generation_config.json there and back, and what a caller says instead of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.decoding import BeamSearch, Sampling
from t5x_style.errors import UserError
from t5x_style.huggingface import generation_config
from t5x_style.huggingface.generation_config import GenerationDefaults, from_settings, overridden, to_settings


def test_greedy_whatever_the_temperature():
    found = from_settings(
        {"temperature": 0.6, "top_p": 0.9, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
    )
    assert found == GenerationDefaults(eos_ids=(2,), bos_id=1)


def test_sampling_has_their_default_top_k():
    settings = {"do_sample": True, "temperature": 0.6, "min_p": 0.1, "eos_token_id": [2, 7], "repetition_penalty": 1.1}
    found = from_settings(settings)
    assert found.sampling == Sampling(0.6, top_k=50, min_p=0.1, repetition_penalty=1.1)
    assert found.eos_ids == (2, 7)


def test_beams_and_lengths():
    settings = {"num_beams": 4, "length_penalty": 0.6, "early_stopping": "never", "max_new_tokens": 9, "max_length": 20}
    found = from_settings({**settings, "decoder_start_token_id": 0, "no_repeat_ngram_size": 3})
    assert found.beam_search == BeamSearch(4, 0.6, "never")
    assert (found.max_new_tokens, found.decoder_start_id, found.sampling.no_repeat_ngram) == (9, 0, 3)
    assert found.unsupported == ()


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"forced_bos_token_id": 7}, "forced_bos_token_id=7"),
        ({"forced_bos_token_id": 0}, "forced_bos_token_id=0"),
        ({"forced_eos_token_id": 1}, "forced_eos_token_id=1"),
        ({"forced_eos_token_id": [4, 5]}, "forced_eos_token_id=[4, 5]"),
        ({"suppress_tokens": [1]}, "suppress_tokens=[1]"),
        ({"min_length": 56}, "min_length=56"),
        ({"something_new": "yes"}, "something_new='yes'"),
        ({"do_sample": True, "num_beams": 3}, "do_sample=True with num_beams=3"),
    ],
)
def test_what_is_not_supported_is_kept_to_be_told(settings, shown):
    assert from_settings(settings).unsupported == (shown,)


def test_switched_off_settings_are_no_matter():
    settings = {"forced_bos_token_id": None, "typical_p": 1.0, "suppress_tokens": [], "diversity_penalty": 0.0}
    assert from_settings({**settings, "transformers_version": "5", "output_scores": True}).unsupported == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": "many"}, "x.json: a setting has a wrong type"),
        ({"do_sample": True, "top_p": 1.5}, "x.json: Sampling.top_p is 1.5"),
        ({"eos_token_id": "end"}, "x.json: a setting has a wrong type"),
    ],
)
def test_wrong_values(settings, message):
    with pytest.raises(UserError, match=message):
        from_settings(settings, "x.json")


DEFAULTS = st.builds(
    GenerationDefaults,
    sampling=st.one_of(
        st.builds(
            Sampling,
            temperature=st.floats(0.1, 2),
            top_k=st.integers(0, 99),
            top_p=st.floats(0.1, 1),
            min_p=st.floats(0, 1),
            repetition_penalty=st.floats(0.5, 2),
        ),
        st.builds(Sampling, no_repeat_ngram=st.integers(0, 4)),
    ),
    max_new_tokens=st.none() | st.integers(1, 99),
    min_new_tokens=st.none() | st.integers(1, 9),
    eos_ids=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    stop=st.lists(st.text(min_size=1), max_size=2).map(tuple),
    bos_id=st.none() | st.integers(0, 9),
    pad_id=st.none() | st.integers(0, 9),
    decoder_start_id=st.none() | st.integers(0, 9),
)


@given(DEFAULTS)
def test_there_and_back(defaults):
    assert from_settings(json.loads(json.dumps(to_settings(defaults)))) == defaults


def test_beams_there_and_back():
    defaults = GenerationDefaults(beam_search=BeamSearch(3, 0.0, True))
    assert from_settings(to_settings(defaults)) == defaults


def test_read_falls_back_to_config_json(tmp_path):
    settings = {"model_type": "t5", "eos_token_id": 1, "decoder_start_token_id": 0, "vocab_size": 9, "min_length": 3}
    found = generation_config.read(tmp_path, settings)
    assert found == GenerationDefaults(eos_ids=(1,), decoder_start_id=0, unsupported=("min_length=3",))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert generation_config.read(tmp_path, settings) == GenerationDefaults(eos_ids=(5,))
    for broken in ("[]", "{"):
        (tmp_path / "generation_config.json").write_text(broken)
        with pytest.raises(UserError, match=r"generation_config\.json"):
            generation_config.read(tmp_path, settings)


def test_callers_come_first():
    sampled = GenerationDefaults(sampling=Sampling(0.7, 50, 0.9), stop=("\n",), max_new_tokens=8)
    found = overridden(sampled, {"temperature": 0.2, "stop": "x", "eos_ids": [3]})
    assert found["sampling"] == Sampling(0.2, 50, 0.9)
    assert (found["stop"], found["eos_id"], found["max_new_tokens"]) == (("x",), [3], 8)
    assert overridden(sampled, {})["stop"] == ("\n",)
    assert overridden(sampled, {"temperature": 0.0})["sampling"].temperature == 0.0
    beams = overridden(sampled, {"num_beams": 2})
    assert (beams["beam_search"], beams["sampling"]) == (BeamSearch(2), Sampling())


def test_a_temperature_ends_beam_search():
    searching = GenerationDefaults(beam_search=BeamSearch(4, 0.5))
    assert overridden(searching, {"temperature": 0.5})["beam_search"] is None
    assert overridden(searching, {"num_beams": 1})["beam_search"] is None
    assert overridden(searching, {"num_beams": 2})["beam_search"] == BeamSearch(2, 0.5)
    assert overridden(searching, {"length_penalty": 2.0})["beam_search"] == BeamSearch(4, 2.0)


@pytest.mark.parametrize(
    ("given_options", "message"),
    [
        ({"length_penalty": 1.0}, "belong to beam search"),
        ({"top_k": 5}, "give a temperature"),
        ({"num_beams": 0}, "beams is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_options_that_do_not_fit(given_options, message):
    with pytest.raises(UserError, match=message):
        overridden(GenerationDefaults(), given_options)
