"""GPT-1."""

from tests.parity.cases.case import Case

GPT1 = {"vocab_size": 99, "n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 100}

CASES = {
    "gpt1": Case("gpt1", "OpenAIGPTConfig", GPT1, gradients=True),
    "gpt1-relu-odd-heads": Case("gpt1", "OpenAIGPTConfig", {**GPT1, "n_embd": 45, "n_head": 5, "afn": "relu"}),
}
