"""Folders that export writes open in transformers and give the same logits, imported or trained here."""

import importlib
import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch
import transformers
from orbax import checkpoint as ocp

from t5x_style import models
from t5x_style.checkpoints import parameters
from t5x_style.huggingface import load, registry
from t5x_style.huggingface.export_model import export_model
from t5x_style.huggingface.folder import open_folder
from t5x_style.huggingface.import_model import import_model
from t5x_style.models import serialization
from t5x_style.models.specs import EncoderDecoderConfig
from tests.parity.cases.case import all_cases
from tests.parity.fast import slow_except
from tests.parity.pairs import run, vocabulary_logits

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
# A tied and an untied table, fused and grouped tensors, experts, an encoder and an encoder-decoder.
NAMES = ["llama-gqa", "llama-mqa-tied-biases", "mixtral", "qwen3", "gemma3", "gpt2", "bloom-6-heads", "t5", "bert"]
CASES = all_cases()


def save(name, folder, **how):
    """A model of transformers with large random weights, saved; and its class."""
    case = CASES[name]
    family = importlib.import_module(f"t5x_style.huggingface.families.{case.family}")
    settings = getattr(transformers, case.config)(**case.settings, attn_implementation="eager")
    kind = getattr(transformers, case.model or family.MODEL_TYPES[settings.model_type])
    torch.manual_seed(0)
    model = kind(settings).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, **how)
    return model, kind


def logits(model, vocab_size):
    random = np.random.default_rng(0)
    tokens = torch.tensor(random.integers(3, vocab_size, (2, 21)))
    inputs = {"input_ids": tokens}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens[:, :9]
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def our_logits(model, config):
    """As `logits`."""
    tokens = jnp.asarray(np.random.default_rng(0).integers(3, config.vocab_size, (2, 21)))
    given = (tokens[:, :9], tokens) if isinstance(config, EncoderDecoderConfig) else (tokens,)
    return np.asarray(run(vocabulary_logits, model, *given))[..., : config.vocab_size]


def reopened(kind, folder):
    """from_pretrained, with every weight from the folder."""
    model, info = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


EXPORTED = {f"{shard}-{name}": (shard, name) for name in NAMES for shard in ("5GB", "40KB")}


@pytest.mark.parametrize(("shard", "name"), slow_except(EXPORTED, "40KB-llama-gqa", "5GB-t5", "5GB-bert"))
def test_exported_folder_gives_the_same_logits(shard, name, tmp_path):
    model, kind = save(name, tmp_path / "hf", max_shard_size=shard)
    import_model(tmp_path / "hf", tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported", max_shard_size=40_000 if shard == "40KB" else 10**9)
    again = reopened(kind, tmp_path / "exported")
    size = model.config.vocab_size
    np.testing.assert_array_equal(logits(again, size), logits(model, size))
    assert (tmp_path / "exported/config.json").read_bytes() == (tmp_path / "hf/config.json").read_bytes()


def test_weights_and_their_auto_class(tmp_path):
    model, _ = save("llama-gqa", tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported", dtype="bfloat16")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert again.dtype == torch.bfloat16
    for name, value in model.bfloat16().state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("name", slow_except(["llama-gqa", "gpt2", "t5", "bert", "mixtral"], "gpt2"))
def test_a_model_trained_here_opens_in_transformers(name, tmp_path):
    """No config.json to start from: the family is found, and what it writes gives our logits."""
    case = CASES[name]
    settings = getattr(transformers, case.config)(**case.settings)
    family = registry.family(settings.to_dict())
    config = family.from_config(settings.to_dict())
    graphdef, state, shapes = parameters.split(models.abstract(config))
    random = np.random.default_rng(0)
    params = parameters.nested(
        {
            path: jnp.asarray((path.endswith("scale") + 0.3 * random.normal(size=leaf.shape)).astype(np.float32))
            for path, leaf in parameters.flat(shapes).items()
        }
    )
    path = tmp_path / "model" / "checkpoints" / "5" / "params"
    path.parent.mkdir(parents=True)
    (tmp_path / "model" / "model.json").write_text(serialization.to_json(config))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, params)
    written = export_model(tmp_path / "model", tmp_path / "exported")
    assert written.model_type == settings.model_type
    theirs = reopened(getattr(transformers, registry.class_name(settings.to_dict())), tmp_path / "exported")
    expected = logits(theirs, config.vocab_size)
    ours = our_logits(parameters.merge(graphdef, state, params), config)
    np.testing.assert_allclose(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 1


def test_an_untied_t5_head_is_found_in_the_weights(tmp_path):
    """transformers 5 writes tie_word_embeddings true for every T5; v1.1's head is its own table all the same."""
    model, kind = save("t5-v1.1", tmp_path / "hf")
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["lm_head.weight"] += torch.randn_like(tensors["lm_head.weight"])
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    safetensors_torch = importlib.import_module("safetensors.torch")
    kept = {name: value for name, value in tensors.items() if name not in copies}
    safetensors_torch.save_file(kept, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    theirs = reopened(kind, tmp_path / "hf")
    import_model(tmp_path / "hf", tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported")
    again = reopened(kind, tmp_path / "exported")
    size = theirs.config.vocab_size
    assert not np.array_equal(logits(theirs, size), logits(model, size))
    np.testing.assert_array_equal(logits(again, size), logits(theirs, size))
    folder = open_folder(tmp_path / "exported")
    graphdef, state, shapes = parameters.split(models.abstract(folder.config))
    values = load.read_parameters(folder, {path: leaf.shape for path, leaf in parameters.flat(shapes).items()})
    params = parameters.nested({path: jnp.asarray(value) for path, value in values})
    found = our_logits(parameters.merge(graphdef, state, params), folder.config)
    np.testing.assert_allclose(found, logits(theirs, size), atol=TOLERANCE, rtol=TOLERANCE)
