"""T5, T5 v1.1 (Flan-T5), mT5, UL2."""

from tests.parity.cases.case import Case

T5 = {"vocab_size": 99, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}

CASES = {
    "t5": Case("t5", "T5Config", T5, gradients=True),
    "t5-v1.1": Case("t5", "T5Config", {**T5, **GATED}, gradients=True),
    "mt5": Case("t5", "MT5Config", T5),
    "ul2": Case("t5", "T5Config", {**T5, **GATED, "feed_forward_proj": "gated-silu", "d_kv": 16, "num_heads": 3}),
}
