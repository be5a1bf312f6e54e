"""LLaMA, Mistral, Mixtral, Qwen2, Qwen3."""

from tests.parity.cases.case import Case

LLAMA = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def rope(kind, **settings):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


def llama(gradients=False, **changes):
    return Case("llama", "LlamaConfig", {**LLAMA, **changes}, gradients=gradients)


YARN = {"factor": 8.0, "original_max_position_embeddings": 32, "attention_factor": 0.7, "beta_fast": 16}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
BIASES = {"attention_bias": True, "mlp_bias": True}
WINDOWS = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
EXPERTS = {"num_local_experts": 5, "num_experts_per_tok": 2}

CASES = {
    "llama-gqa": llama(gradients=True),
    "llama-mqa-tied-biases": llama(num_key_value_heads=1, tie_word_embeddings=True, gradients=True, **BIASES),
    "llama-rope-linear": llama(**rope("linear", factor=4.0)),
    "llama-rope-dynamic": llama(**rope("dynamic", factor=4.0)),
    "llama-rope-yarn": llama(**rope("yarn", factor=4.0, original_max_position_embeddings=16)),
    "llama-rope-yarn-amplitude": llama(**rope("yarn", **YARN)),
    "llama-rope-llama3": llama(**rope("llama3", **LLAMA3)),
    "mistral-window": Case("llama", "MistralConfig", {**LLAMA, "sliding_window": 7}),
    "mixtral": Case("llama", "MixtralConfig", {**LLAMA, **EXPERTS}, gradients=True),
    "qwen2-windows": Case("llama", "Qwen2Config", {**LLAMA, **WINDOWS}),
    "qwen3": Case("llama", "Qwen3Config", {**LLAMA, "head_dim": 20}),
}
