"""ChatGLM-6B and the second design (ChatGLM2, ChatGLM3, GLM-4), against numpy."""

from tests.parity.cases.case import Case
from tests.parity.references.chatglm import logits

FIRST = {
    "model_type": "chatglm",
    "vocab_size": 99,
    "hidden_size": 48,
    "inner_hidden_size": 80,
    "num_layers": 3,
    "num_attention_heads": 4,
    "layernorm_epsilon": 1e-5,
    "position_encoding_2d": True,
}
# Of the three rows two have [gMASK] before the start, the third [MASK].
MASKS = {"bos_token_id": 10, "gmask_token_id": 28, "mask_token_id": 43}
# The first row has no start, the second [MASK] right before it, the third behind it.
ODD_ROWS = {"bos_token_id": 7, "gmask_token_id": 1, "mask_token_id": 62}
SECOND = {
    "model_type": "chatglm",
    "padded_vocab_size": 99,
    "hidden_size": 48,
    "ffn_hidden_size": 80,
    "kv_channels": 12,
    "num_layers": 3,
    "num_attention_heads": 4,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "rmsnorm": True,
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "post_layer_norm": True,
}
OLD_MEGATRON = {
    "multi_query_attention": False,
    "rmsnorm": False,
    "add_bias_linear": True,
    "apply_residual_connection_post_layernorm": True,
    "post_layer_norm": False,
}


FIVE_HEADS = {"num_attention_heads": 5, "hidden_size": 40, "num_layers": 2}
# ChatGLM-6B continues only what has a mask and a start: [gMASK] at the end, [MASK] inside a long context, no context.
PROMPTS = ((5, 6, 28, 10), (3, 4, 43, *range(50, 70), 10, 71), (28, 10))
ODD_PROMPTS = ((62, 7), (5, 62, 6, 8, 7, 9, 7), (4, 1, 62, 3, 7))


def case(settings, prompts=None, **changes):
    return Case("chatglm", None, {**settings, **changes}, reference=logits, max_new_tokens=6, prompts=prompts)


CASES = {
    "chatglm-6b-both-masks": case(FIRST, PROMPTS, **MASKS),
    "chatglm-6b-odd-rows-5-heads": case(FIRST, ODD_PROMPTS, **ODD_ROWS, **FIVE_HEADS),
    "chatglm2-2-groups": case(SECOND),
    "chatglm3-1-group-narrow-heads": case(SECOND, multi_query_group_num=1, num_attention_heads=3, kv_channels=8),
    "glm-4-9b-rope-ratio": case(SECOND, rope_ratio=500, num_layers=2),
    "chatglm2-every-option-turned": case(SECOND, **OLD_MEGATRON, num_layers=2),
}
