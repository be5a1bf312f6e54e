"""Switch Transformers: experts in every layer, every second, every third; room for all tokens, and for few."""

from tests.parity.cases.case import Case

SWITCH = {
    "vocab_size": 99,
    "d_model": 48,
    "d_kv": 10,
    "d_ff": 40,
    "num_layers": 4,
    "num_decoder_layers": 3,
    "num_sparse_encoder_layers": 2,
    "num_sparse_decoder_layers": 1,
    "num_heads": 4,
    "num_experts": 5,
    "decoder_start_token_id": 0,
}


def switch(**changes):
    # padding on the left takes room from tokens there, never here
    return Case("switch", "SwitchTransformersConfig", {**SWITCH, **changes}, left_padding=False, gradients=True)


CASES = {
    "switch": switch(),
    "switch-drops-tokens": switch(expert_capacity=4, num_sparse_decoder_layers=3),
    "switch-one-sparse-layer": switch(num_sparse_encoder_layers=0, num_layers=3, num_experts=2),
}
