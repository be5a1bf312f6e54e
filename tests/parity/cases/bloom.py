"""BLOOM."""

from tests.parity.cases.case import Case

BLOOM = {"vocab_size": 99, "hidden_size": 48, "n_head": 6, "n_layer": 3}
NORMED = {**BLOOM, "n_head": 4, "apply_residual_connection_post_layernorm": True}

CASES = {
    "bloom-6-heads": Case("bloom", "BloomConfig", BLOOM, gradients=True),
    "bloom-normed-residual": Case("bloom", "BloomConfig", NORMED),
}
