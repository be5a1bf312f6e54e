"""GPT-3 with locally banded layers against numpy, GPT-Neo against transformers."""

from tests.parity.cases.case import Case
from tests.parity.references.gpt3 import logits

GPT3 = {
    "model_type": "gpt3",
    "vocab_size": 99,
    "n_embd": 48,
    "n_head": 4,
    "n_layer": 4,
    "n_positions": 100,
    "attention_layers": ["global", "local", "global", "local"],
    "window_size": 7,
}
NEO = {
    "vocab_size": 99,
    "hidden_size": 48,
    "num_heads": 4,
    "num_layers": 4,
    "max_position_embeddings": 100,
    "attention_types": [[["global", "local"], 2]],
    "window_size": 7,
}


def gpt3(**changes):
    # the reference counts positions from a row's first token, ours from its first slot unless given
    return Case("gpt3", None, {**GPT3, **changes}, reference=logits, max_new_tokens=6, left_padding=False)


def neo(gradients=False, **changes):
    return Case("gpt3", "GPTNeoConfig", {**NEO, **changes}, gradients=gradients)


CASES = {
    "gpt3-banded": gpt3(),
    "gpt3-odd-wide-heads": gpt3(n_head=3, head_dim=21, window_size=1),
    "gpt3-uneven-pattern": gpt3(n_layer=3, attention_layers=["local", "local", "global"], window_size=12),
    "gpt-neo": neo(gradients=True),
    "gpt-neo-uneven-pattern": neo(
        num_layers=3, attention_types=[[["global"], 1], [["local"], 2]], num_heads=3, intermediate_size=50
    ),
}
