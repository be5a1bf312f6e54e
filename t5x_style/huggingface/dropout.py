"""Dropout in a config.json: which key says which place of DropoutSpec, and what it is where the key is missing.

Where one key stands for several places, a model whose rates differ there writes the first; a place without a key is
left out. Dropout is no part of what a model computes, so that such a file still holds the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t5x_style.models.specs import DropoutSpec

_BERT = {
    "residual": "hidden_dropout_prob",
    "embedding": "hidden_dropout_prob",
    "attention": "attention_probs_dropout_prob",
}
_GPT = {"residual": "resid_pdrop", "embedding": "embd_pdrop", "attention": "attn_pdrop"}
_NEO = {"residual": "resid_dropout", "embedding": "embed_dropout", "attention": "attention_dropout"}
_T5 = dict.fromkeys(("residual", "embedding", "hidden", "attention", "final"), "dropout_rate")
_LLAMA = {"attention": "attention_dropout"}
_BLOOM = {"residual": "hidden_dropout", "attention": "attention_dropout"}
_GLM = {"residual": "output_dropout_prob", "embedding": "embedding_dropout_prob", "attention": "attention_dropout_prob"}

# model_type -> (keys by place, transformers' default of all of them); types that are not here have no such key.
_KEYS: dict[str, tuple[Mapping[str, str], float]] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), (_BERT, 0.1)),
    "albert": (_BERT, 0.0),
    **dict.fromkeys(("gpt2", "openai-gpt"), (_GPT, 0.1)),
    "gpt3": (_GPT, 0.0),
    "gpt_neo": (_NEO, 0.0),
    **dict.fromkeys(("t5", "mt5"), (_T5, 0.1)),
    "xlnet": (dict.fromkeys(_T5, "dropout"), 0.1),
    **dict.fromkeys(
        ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3_text", "glm", "glm4"), (_LLAMA, 0.0)
    ),
    **dict.fromkeys(("bloom", "chatglm"), (_BLOOM, 0.0)),
    "glm_infilling": (_GLM, 0.1),  # the first GLM, whose model_type is "glm" too
}


def read(settings: Mapping[str, Any], kind: str | None = None) -> DropoutSpec:
    """The rates of a config.json; `kind` in place of its model_type."""
    keys, default = _KEYS.get(settings["model_type"] if kind is None else kind, ({}, 0.0))
    return DropoutSpec(**{place: float(settings.get(key, default)) for place, key in keys.items()})


def write(spec: DropoutSpec, kind: str) -> dict[str, float]:
    """Their keys of our rates; where transformers' default is 0, a rate of 0 is left out."""
    keys, default = _KEYS.get(kind, ({}, 0.0))
    rates: dict[str, float] = {}
    for place, key in keys.items():
        rates.setdefault(key, getattr(spec, place))
    return {key: rate for key, rate in rates.items() if default or rate}
