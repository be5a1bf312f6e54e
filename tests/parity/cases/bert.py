"""BERT and RoBERTa."""

from tests.parity.cases.case import Case

BERT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 80,
}

CASES = {
    "bert": Case("bert", "BertConfig", BERT, gradients=True),
    # their positions count from the first token that is no padding, ours from the start of the row unless given
    "roberta": Case(
        "bert", "RobertaConfig", {**BERT, "pad_token_id": 1, "type_vocab_size": 1}, gradients=True, left_padding=False
    ),
}
