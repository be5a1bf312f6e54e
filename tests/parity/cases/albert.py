"""ALBERT: one shared layer, groups of layers, an embedding of its own width."""

from tests.parity.cases.case import Case

ALBERT = {
    "vocab_size": 99,
    "embedding_size": 16,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 80,
}

CASES = {
    "albert": Case("albert", "AlbertConfig", ALBERT, gradients=True),
    "albert-groups": Case(
        "albert",
        "AlbertConfig",
        {**ALBERT, "num_hidden_layers": 5, "num_hidden_groups": 2, "inner_group_num": 2, "hidden_act": "gelu"},
    ),
    "albert-untied-square": Case(
        "albert", "AlbertConfig", {**ALBERT, "embedding_size": 48, "tie_word_embeddings": False}
    ),
}
