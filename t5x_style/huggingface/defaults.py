"""Settings that a config.json may leave out: what transformers' configuration classes (5.x) have there.

Only where families of ours would differ, or have no value at all; sizes are never guessed but for Gemma 3, whose
published files leave them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LLAMA: dict[str, Any] = {"hidden_act": "silu", "rms_norm_eps": 1e-6}
_MISTRAL = {**_LLAMA, "num_key_value_heads": 8, "max_position_embeddings": 131072}
_QWEN = {**_LLAMA, "num_key_value_heads": 32, "max_position_embeddings": 32768}
_QWEN |= {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
_GEMMA: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256}
_GEMMA |= {"sliding_window": 4096}
_GEMMA3_SIZES = {"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26}
_GEMMA3_SIZES |= {"num_attention_heads": 8, "max_position_embeddings": 131072}

DEFAULTS: dict[str, Mapping[str, Any]] = {
    "llama": {**_LLAMA, "max_position_embeddings": 2048},
    "mistral": {**_MISTRAL, "sliding_window": 4096},
    "mixtral": {**_MISTRAL, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "head_dim": 128},
    "gemma2": {
        **_GEMMA,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "max_position_embeddings": 8192,
    },
    "gemma3_text": {**_GEMMA, **_GEMMA3_SIZES},
    "glm": {"num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 131072},
    "glm4": {"num_key_value_heads": 2, "head_dim": 128, "max_position_embeddings": 131072},
    "gpt2": {"activation_function": "gelu_new", "n_positions": 1024},
    "gpt_neo": {"window_size": 256},
    "mt5": {"feed_forward_proj": "gated-gelu"},
    "xlnet": {"mem_len": 512},
}


def filled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json with the values of the keys that it leaves out; a key whose value is null stays null.

    Example: {"model_type": "mistral"} gets "sliding_window": 4096, {"model_type": "mistral", "sliding_window": None}
    keeps its None.
    """
    return {**DEFAULTS.get(settings.get("model_type", ""), {}), **settings}
