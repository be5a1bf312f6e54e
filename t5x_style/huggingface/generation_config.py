"""generation_config.json: how a model is to be decoded, theirs to ours and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from t5x_style.decoding.beam import BeamSearch
from t5x_style.decoding.sampling import GREEDY, Sampling
from t5x_style.errors import UserError
from t5x_style.huggingface.json_files import read_json

FILE = "generation_config.json"
# transformers draws among so many tokens where a file that asks for sampling does not say.
DEFAULT_TOP_K = 50
_READ = {
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "max_new_tokens",
    "min_new_tokens",
    "eos_token_id",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "stop_strings",
}
# Not supported; older folders have these, and those above, in config.json among the settings of the model.
_REFUSED = {
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "encoder_no_repeat_ngram_size",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "min_length",
    "num_beam_groups",
    "suppress_tokens",
    "typical_p",
}
# What does not change which tokens are drawn. max_length bounds texts, it does not say how long an answer should be.
_HARMLESS = {
    "_from_model_config",
    "transformers_version",
    "use_cache",
    "cache_implementation",
    "return_dict_in_generate",
    "max_length",
    "chat_format",
    "max_window_size",
    "user_token_id",
    "assistant_token_id",
}
_DRAWN = ("temperature", "top_k", "top_p", "min_p")
_SAMPLING = (*_DRAWN, "repetition_penalty", "no_repeat_ngram")
_BEAMS = ("length_penalty", "early_stopping")
# What a caller can say instead of the file.
OPTIONS = {*_SAMPLING, *_BEAMS, "num_beams", "max_new_tokens", "min_new_tokens", "stop", "eos_ids"}
DEFAULT_NEW_TOKENS = 64
# Values that switch a setting off.
_NEUTRAL: tuple[Any, ...] = (None, False, 0, 1, "", [], {})


@dataclasses.dataclass(frozen=True)
class GenerationDefaults:
    """What `generate` does unless told otherwise.

    Attributes:
      sampling: how a token is chosen. beam_search: instead of drawing; None: none.
      max_new_tokens, min_new_tokens: None: not said.
      eos_ids: any of them ends a text. stop: texts that do.
      bos_id, pad_id, decoder_start_id: None: not said.
      unsupported: settings of the file that would change the result and that we do not have, as "name=value".
    """

    sampling: Sampling = GREEDY
    beam_search: BeamSearch | None = None
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    eos_ids: tuple[int, ...] = ()
    stop: tuple[str, ...] = ()
    bos_id: int | None = None
    pad_id: int | None = None
    decoder_start_id: int | None = None
    unsupported: tuple[str, ...] = ()


def from_settings(settings: Mapping[str, Any], source: str = FILE) -> GenerationDefaults:
    """Theirs to ours. A file without do_sample is greedy whatever its temperature, as in transformers.

    Example:
      from_settings({"do_sample": True, "temperature": 0.6, "eos_token_id": [2, 7]}) has
      sampling Sampling(temperature=0.6, top_k=50) and eos_ids (2, 7).

    Raises:
      UserError: a value has the wrong type.
    """
    sampled = bool(settings.get("do_sample", False))

    def value(name: str, default: Any) -> Any:
        found = settings.get(name)
        return default if found is None else found

    stop = settings.get("stop_strings")
    unsupported = [
        f"{name}={held!r}"
        for name, held in sorted(settings.items())
        if name not in _READ | _HARMLESS and not name.startswith("output_") and not _is_off(name, held)
    ]
    try:
        beams = int(value("num_beams", 1))
        drawn: dict[str, Any] = {
            "temperature": float(value("temperature", 1.0)),
            "top_k": int(value("top_k", DEFAULT_TOP_K)),
            "top_p": float(value("top_p", 1.0)),
            "min_p": float(value("min_p", 0.0)),
        }
        if sampled and beams > 1:
            unsupported.append(f"do_sample=True with num_beams={beams}")
        search = BeamSearch(beams, float(value("length_penalty", 1.0)), value("early_stopping", False))
        return GenerationDefaults(
            sampling=Sampling(
                repetition_penalty=float(value("repetition_penalty", 1.0)),
                no_repeat_ngram=int(value("no_repeat_ngram_size", 0)),
                **(drawn if sampled and beams == 1 else {}),
            ),
            beam_search=search if beams > 1 else None,
            max_new_tokens=_integer(settings.get("max_new_tokens")),
            min_new_tokens=_integer(settings.get("min_new_tokens")),
            eos_ids=_ids(settings.get("eos_token_id")),
            stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
            bos_id=_first(settings.get("bos_token_id")),
            pad_id=_first(settings.get("pad_token_id")),
            decoder_start_id=_first(settings.get("decoder_start_token_id")),
            unsupported=tuple(unsupported),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{source}: a setting has a wrong type ({error}); correct it") from error
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _is_off(name: str, value: Any) -> bool:
    """Whether a setting changes nothing; an id may be 0 or 1 and is a setting all the same."""
    return value is None or value == [] or (not name.endswith(("_token_id", "_token_ids")) and value in _NEUTRAL)


def _integer(value: Any) -> int | None:
    return None if value is None else int(value)


def _ids(value: Any) -> tuple[int, ...]:
    found = value if isinstance(value, (list, tuple)) else [value]
    return tuple(int(token) for token in found if token is not None and int(token) >= 0)  # -1: none (XLM, some GPT-2)


def _first(value: Any) -> int | None:
    found = _ids(value)
    return found[0] if found else None


def to_settings(defaults: GenerationDefaults) -> dict[str, Any]:
    """Ours to theirs; `from_settings` gives an equal value back."""
    sampling, search = defaults.sampling, defaults.beam_search
    settings: dict[str, Any] = {"do_sample": sampling.temperature > 0}
    if sampling.temperature > 0:
        settings |= {name: getattr(sampling, name) for name in _DRAWN}
    if sampling.repetition_penalty != 1.0:
        settings["repetition_penalty"] = sampling.repetition_penalty
    if sampling.no_repeat_ngram:
        settings["no_repeat_ngram_size"] = sampling.no_repeat_ngram
    if search is not None:
        settings |= {"num_beams": search.beams, "length_penalty": search.length_penalty}
        settings["early_stopping"] = search.early_stopping
    if defaults.eos_ids:
        settings["eos_token_id"] = list(defaults.eos_ids) if len(defaults.eos_ids) > 1 else defaults.eos_ids[0]
    if defaults.stop:
        settings["stop_strings"] = list(defaults.stop)
    settings |= {
        "max_new_tokens": defaults.max_new_tokens,
        "min_new_tokens": defaults.min_new_tokens,
        "bos_token_id": defaults.bos_id,
        "pad_token_id": defaults.pad_id,
        "decoder_start_token_id": defaults.decoder_start_id,
    }
    return {name: value for name, value in settings.items() if value is not None}


def read(folder: str | Path, settings: Mapping[str, Any]) -> GenerationDefaults:
    """The defaults of a folder: its generation_config.json, or what config.json says of generation where it has none.

    Args:
      folder: that holds the file. settings: config.json.

    Raises:
      UserError: the file is broken.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return from_settings(
            {name: settings[name] for name in _READ | _REFUSED if name in settings}, f"{folder}/config.json"
        )
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object")
    return from_settings(found, str(path))


def overridden(defaults: GenerationDefaults, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of decoding.generate: the defaults, and in their place what a caller gives (names in OPTIONS).

    A temperature turns the defaults' beam search off, num_beams above 1 their temperature.

    Raises:
      UserError: options of beam search without one, random draws without a temperature, or values out of range.
    """
    sampling, search = defaults.sampling, defaults.beam_search
    if "num_beams" in given:
        search = BeamSearch(given["num_beams"]) if search is None else replace(search, beams=given["num_beams"])
    elif given.get("temperature", 0) > 0:
        search = None
    if search is not None and search.beams == 1:
        search = None
    of_beams = {name: given[name] for name in _BEAMS if name in given}
    if of_beams and search is None:
        raise UserError(f"{' and '.join(of_beams)} belong to beam search; give num_beams above 1 too")
    if search is not None:
        search = replace(search, **of_beams)
        sampling = replace(sampling, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0)
    sampling = replace(sampling, **{name: given[name] for name in _SAMPLING if name in given})
    restricting = [name for name in _DRAWN[1:] if name in given]
    if restricting and sampling.temperature == 0 and sampling != replace(sampling, top_k=0, top_p=1.0, min_p=0.0):
        raise UserError(f"{' and '.join(restricting)} choose among random draws; give a temperature, such as 0.8, too")
    stop = given.get("stop", defaults.stop)
    return {
        "max_new_tokens": given.get("max_new_tokens", defaults.max_new_tokens or DEFAULT_NEW_TOKENS),
        "min_new_tokens": given.get("min_new_tokens", defaults.min_new_tokens or 0),
        "eos_id": given.get("eos_ids", defaults.eos_ids),
        "sampling": sampling,
        "beam_search": search,
        "stop": (stop,) if isinstance(stop, str) else tuple(stop),
    }
