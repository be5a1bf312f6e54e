"""Small Hugging Face folders made without transformers: settings of a family, random tensors of its weight map."""

import json

import ml_dtypes  # noqa: F401  (numpy learns bfloat16)
import numpy as np
import pytest
import safetensors.numpy

from t5x_style.checkpoints import parameters
from t5x_style.huggingface import load, registry

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 99,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 61,
    "n_embd": 24,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 20,
    "activation_function": "gelu_new",
}
MIXTRAL = {
    **LLAMA,
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
}
T5 = {
    "model_type": "t5",
    "vocab_size": 50,
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 24,
    "num_layers": 2,
    "num_heads": 4,
    "tie_word_embeddings": True,
}
BERT = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "hidden_act": "gelu",
}
FAMILIES = {"llama": LLAMA, "gpt2": GPT2, "mixtral": MIXTRAL, "t5": T5, "bert": BERT}


def tensors_of(settings, dtype="float32"):
    family = registry.family(settings)
    random = np.random.default_rng(0)
    rules = family.weight_map(family.from_config(settings)).rules()
    return {rule.theirs: random.normal(size=rule.layout.theirs).astype(dtype) for rule, _ in rules}


def drawn(config):
    """Parameters as training keeps them, drawn by NumPy: nothing is compiled."""
    random = np.random.default_rng(0)
    values = {
        path: np.ones(leaf.shape) if path.endswith("/scale") else 0.2 * random.normal(size=leaf.shape)
        for path, leaf in load.abstract_parameters(config).items()
    }
    return parameters.nested({path: value.astype(np.float32) for path, value in values.items()})


def write_folder(folder, settings, tensors, shards=1):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    if shards == 1:
        safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for number in range(shards):
        name = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        held = {key: tensors[key] for key in sorted(tensors)[number::shards]}  # layers lie across all files
        safetensors.numpy.save_file(held, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(held, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


@pytest.fixture
def make_folder(tmp_path):
    """make_folder("llama", shards=2, dtype="bfloat16", **settings) -> the folder; `change(tensors)` may edit them."""

    def make(name="llama", *, shards=1, dtype="float32", change=None, **settings):
        settings = {**FAMILIES[name], **settings}
        tensors = tensors_of(settings, dtype)
        if change is not None:
            change(tensors)
        return write_folder(tmp_path / f"hf_{name}", settings, tensors, shards)

    return make
