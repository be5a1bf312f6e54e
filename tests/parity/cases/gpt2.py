"""GPT-2."""

from tests.parity.cases.case import Case

GPT2 = {"vocab_size": 99, "n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 80}

CASES = {
    "gpt2": Case("gpt2", "GPT2Config", GPT2, gradients=True),
    "gpt2-scaled-by-layer": Case("gpt2", "GPT2Config", {**GPT2, "scale_attn_by_inverse_layer_idx": True}),
}
