"""GLM-4 in transformers: GLM-4-9B ("glm") and GLM-4-0414 ("glm4")."""

from tests.parity.cases.case import Case

GLM = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 20,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
OTHER = {"num_key_value_heads": 1, "head_dim": 16, "attention_bias": False, "tie_word_embeddings": True}
# a quarter of each head turns
YARN = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 16}

CASES = {
    "glm": Case("glm", "GlmConfig", GLM, gradients=True),
    "glm-mqa-tied-no-bias": Case("glm", "GlmConfig", {**GLM, **OTHER}),
    "glm-quarter-yarn": Case(
        "glm", "GlmConfig", {**GLM, "head_dim": 16, "rope_parameters": {**YARN, "partial_rotary_factor": 0.25}}
    ),
    "glm4": Case("glm", "Glm4Config", GLM),
    "glm4-whole-heads-turn": Case(
        "glm", "Glm4Config", {**GLM, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}}
    ),
}
