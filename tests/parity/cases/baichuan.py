"""Baichuan 1 and 2, 7B (rotary) and 13B (ALiBi), against numpy."""

from tests.parity.cases.case import Case
from tests.parity.references.baichuan import logits

BAICHUAN = {
    "model_type": "baichuan",
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
}
ROTARY = {"max_position_embeddings": 64, "model_max_length": 64}
ALIBI = {"model_max_length": 64, "num_hidden_layers": 2}
SECOND = {"z_loss_weight": 0}


def case(**changes):
    return Case("baichuan", None, {**BAICHUAN, **changes}, reference=logits, max_new_tokens=6)


CASES = {
    "baichuan-7b": case(**ROTARY),
    "baichuan-13b-6-heads": case(**ALIBI, num_attention_heads=6),
    "baichuan-13b-5-odd-heads": case(**ALIBI, num_attention_heads=5, hidden_size=35),
    "baichuan2-7b": case(**ROTARY, **SECOND, num_attention_heads=3),
    "baichuan2-13b-40-heads": case(**ALIBI, **SECOND, num_attention_heads=40, hidden_size=80),
}
