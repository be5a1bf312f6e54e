"""XLNet without permutations and memories; those are in tests/parity/test_xlnet.py."""

from tests.parity.cases.case import Case

# larger weights than the default, so that attention is far from even
XLNET = {"vocab_size": 99, "d_model": 48, "n_layer": 3, "n_head": 4, "d_inner": 80, "initializer_range": 0.2}

CASES = {
    "xlnet": Case("xlnet", "XLNetConfig", XLNET, gradients=True),
    "xlnet-3-heads-clamped": Case(
        "xlnet",
        "XLNetConfig",
        {**XLNET, "n_head": 3, "clamp_len": 9, "d_inner": 77},
    ),
    "xlnet-untied-relu": Case(
        "xlnet",
        "XLNetConfig",
        {**XLNET, "n_head": 6, "tie_word_embeddings": False, "ff_activation": "relu"},
    ),
}
