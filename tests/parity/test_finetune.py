"""A folder of transformers, fine-tuned by gin/runs/finetune.gin and exported, opens there with our logits."""

import importlib.util
import shutil

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch
import transformers

import t5x_style
from t5x_style.huggingface import matching, registry
from t5x_style.huggingface.export_model import export_model
from t5x_style.huggingface.folder import config_of
from t5x_style.huggingface.tokenizers.tokenizer_files import open_tokenizer
from t5x_style.training import architecture
from tests.huggingface.conftest import tensors_of, write_folder
from tests.parity.cases.case import all_cases
from tests.parity.fast import slow_except
from tests.training.text_caches import finetune, write_text_cache, write_tokenizer

pytestmark = pytest.mark.parity
CASES = all_cases()
SMALL = {"vocab_size": 128, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": 3, "eos_token_id": 1}
SCALED = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
MODELS = {
    "llama": ("Llama", {**SMALL, "rope_parameters": SCALED, "max_position_embeddings": 77, "rms_norm_eps": 3e-6}),
    "qwen3-biases": ("Qwen3", {**SMALL, "attention_bias": True, "max_position_embeddings": 99}),
    "gpt2": ("GPT2", {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}),
    "mixtral": ("Mixtral", {**SMALL, "num_local_experts": 3, "sliding_window": None}),
    "gemma2": ("Gemma2", {**SMALL, "query_pre_attn_scalar": 8, "sliding_window": 8}),
    "glm": ("Glm", {**SMALL, "pad_token_id": 0}),
}


@pytest.mark.parametrize("name", slow_except(list(MODELS), "llama", "qwen3-biases"))
def test_a_tuned_folder_opens_in_transformers_with_our_logits(name, tmp_path):
    family, settings = MODELS[name]
    kind = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    torch.manual_seed(0)
    model = getattr(transformers, kind)(getattr(transformers, f"{family}Config")(**settings))
    model.save_pretrained(tmp_path / "hf")
    write_tokenizer(tmp_path / "hf")
    made = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    made.add_tokens(["<|mine|>"])
    made.save_pretrained(tmp_path / "hf")
    cache = write_text_cache(tmp_path / "cache", open_tokenizer(tmp_path / "hf"))

    places = [f"MODEL_DIR='{tmp_path / 'tuned'}'", f"INIT_FROM='{tmp_path / 'hf'}'", f"CACHE_DIR='{cache}'"]
    assert finetune(*places, "STEPS=2", "PEAK_LEARNING_RATE=1e-2", "TrainRun.evaluation=None") == 0
    shutil.move(tmp_path / "hf", tmp_path / "source")
    export_model(tmp_path / "tuned", tmp_path / "exported")

    again, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    tokens = np.random.default_rng(0).integers(0, 96, (2, 19))
    with torch.no_grad():
        theirs = again.eval()(torch.tensor(tokens)).logits.numpy()
        before = model.eval()(torch.tensor(tokens)).logits.numpy()
    ours = np.asarray(t5x_style.load_model(tmp_path / "tuned").logits(tokens))
    np.testing.assert_allclose(theirs, ours, atol=2e-5, rtol=1e-4)
    assert np.abs(theirs - before).max() > 1e-3
    for file in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "exported" / file).read_bytes() == (tmp_path / "source" / file).read_bytes(), file

    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported")
    chat = [{"role": "user", "content": "w1 w2 <|mine|>"}]
    assert tokenizer.chat_template
    assert tokenizer.apply_chat_template(chat, tokenize=True) == made.apply_chat_template(chat, tokenize=True)
    assert tokenizer("w1 <|turn|> <|mine|>").input_ids == made("w1 <|turn|> <|mine|>").input_ids


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.config])
def test_config_json_of_every_family_is_kept_and_written_anew(name):
    """As transformers has it after a round trip, from its own file and from nothing."""
    case = CASES[name]
    source = getattr(transformers, case.config)(**case.settings)
    settings = source.to_dict()
    family = registry.family(settings)
    config = config_of(family, settings, name)
    assert matching.match(config, settings).settings == settings
    written = matching.with_reach(matching.match(config, model_type=settings["model_type"]), config, 640).settings
    opened = getattr(transformers, case.config).from_dict(dict(written))
    assert matching.difference(config_of(family, opened.to_dict(), name), config) is None
    if "max_position_embeddings" in settings:
        assert opened.max_position_embeddings in (640, settings["max_position_embeddings"])


@pytest.mark.parametrize("name", CASES)
def test_a_start_gives_the_architecture(name, tmp_path):
    case = CASES[name]
    settings = dict(case.settings)
    if case.config is not None:
        settings = getattr(transformers, case.config)(**case.settings).to_dict()
    folder = write_folder(tmp_path / "hf", settings, tensors_of(settings))
    assert architecture.of_folder(str(folder), "init_from") == config_of(registry.family(settings), settings, name)
