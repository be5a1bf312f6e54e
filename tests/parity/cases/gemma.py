"""Gemma 2 and 3."""

from tests.parity.cases.case import Case
from tests.parity.cases.llama import LLAMA

GEMMA = {**LLAMA, "num_hidden_layers": 7, "head_dim": 10, "query_pre_attn_scalar": 12, "sliding_window": 8}
CAPS = {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}

CASES = {
    "gemma2": Case("gemma", "Gemma2Config", {**GEMMA, **CAPS}, gradients=True),
    "gemma3": Case("gemma", "Gemma3TextConfig", GEMMA),
}
