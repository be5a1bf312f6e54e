"""The first GLM, against numpy."""

from tests.parity.cases.case import Case
from tests.parity.references.glm_infilling import logits

GLM = {
    "model_type": "glm",
    "vocab_size": 99,
    "hidden_size": 36,
    "num_layers": 2,
    "num_attention_heads": 4,
    "max_sequence_length": 90,
    "block_position_encoding": True,
}


def case(**changes):
    # learned positions count the padding unless they are given
    settings = {**GLM, **changes}
    return Case("glm_infilling", None, settings, reference=logits, max_new_tokens=6, left_padding=False)


CASES = {
    "glm-infilling": case(),
    "glm-infilling-one-table": case(block_position_encoding=False),
}
