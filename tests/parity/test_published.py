"""Published config.json files, also with any one key left out, mean the same to us as to transformers."""

import importlib.util
import json
import pathlib

import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import transformers

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, dropout, registry
from t5x_style.huggingface.matching import difference

pytestmark = pytest.mark.parity
PUBLISHED = json.loads((pathlib.Path(__file__).parents[1] / "huggingface" / "published.json").read_text())
FOREIGN = ("baichuan", "chatglm")  # transformers has no configuration class of theirs


def whole(settings):
    """The config.json with all that transformers adds to it."""
    given = {key: value for key, value in settings.items() if key != "model_type"}
    found = transformers.AutoConfig.for_model(settings["model_type"], **given).to_dict()
    if settings["model_type"] in ("t5", "mt5"):  # there they write true whatever the file says; the weights decide
        tied = given.get("tie_word_embeddings", True)
        found |= {"tie_word_embeddings": tied, "scale_decoder_outputs": tied and settings["model_type"] == "t5"}
    return found


@pytest.mark.parametrize("name", [name for name in PUBLISHED if PUBLISHED[name]["model_type"] not in FOREIGN])
def test_settings_mean_what_they_mean_to_transformers(name):
    published = PUBLISHED[name]
    family, compared = registry.family(published), 0
    for left_out in (None, *published):
        if left_out in ("model_type", "tie_word_embeddings"):
            continue
        settings = {key: value for key, value in published.items() if key != left_out}
        try:
            ours = family.from_config(settings)
        except (KeyError, UserError):
            continue  # a size is missing, or does not go with the default of another: told, not guessed
        theirs = whole(settings)
        assert difference(family.from_config(theirs), ours) is None, left_out
        assert dropout.read(theirs) == dropout.read(settings), left_out
        compared += 1
    assert compared > len(published) // 3


@pytest.mark.parametrize("kind", defaults.DEFAULTS)
def test_defaults_are_those_of_transformers(kind):
    theirs = transformers.AutoConfig.for_model(kind).to_dict()
    expected = {key: value for key, value in defaults.DEFAULTS[kind].items() if key != "rope_theta"}
    # without use_sliding_window they show no window
    if kind.startswith("qwen"):
        del expected["sliding_window"]
    assert {key: theirs[key] for key in expected} == expected
