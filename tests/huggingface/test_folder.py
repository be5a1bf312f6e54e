"""Folders are checked against their config.json before a weight is read; mistakes are one line with file and name."""

import builtins
import errno
import io
import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from t5x_style.errors import UserError
from t5x_style.huggingface import load, matching, registry
from t5x_style.huggingface.folder import is_folder, open_folder
from t5x_style.huggingface.weights.safetensors_files import create, read_header, shards, write


def parameters_of(folder):
    opened = open_folder(folder)
    shapes = {path: leaf.shape for path, leaf in load.abstract_parameters(opened.config).items()}
    return dict(load.read_parameters(opened, shapes))


@pytest.mark.parametrize("name", ["llama", "mixtral", "t5"])
def test_shards_hold_what_one_file_holds(make_folder, tmp_path, name):
    one = parameters_of(make_folder(name))
    (tmp_path / f"hf_{name}").rename(tmp_path / "one")
    many = parameters_of(make_folder(name, shards=5))
    assert set(one) == set(many)
    for path, value in one.items():
        np.testing.assert_array_equal(value, many[path], err_msg=path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtypes_are_kept(make_folder, dtype):
    folder = make_folder(dtype=dtype)
    found = parameters_of(folder)
    assert {value.dtype.name for value in found.values()} == {dtype}
    stored = read_header(folder / "model.safetensors")["model.layers.2.mlp.down_proj.weight"].read()
    np.testing.assert_array_equal(found["trunk/segments/0/layers/0/mlp/down/kernel"][2], stored.T)


def test_layers_of_different_dtypes_lose_nothing(make_folder):
    exact = np.float32(1 + 2**-20)

    def change(tensors):
        for name in tensors:
            tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
        tensors["model.layers.1.input_layernorm.weight"] = np.full(24, exact, np.float32)

    found = parameters_of(make_folder(change=change))
    norms = found["trunk/segments/0/layers/0/attention_norm/scale"]
    assert norms.dtype == np.float32
    assert (norms[1] == exact).all()
    assert found["embedding/table"].dtype == ml_dtypes.bfloat16


def test_a_base_models_names(make_folder):
    def strip(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = np.ones((1, 1, 20, 20), np.float32)

    opened = open_folder(make_folder("gpt2", change=strip))
    assert opened.tensors["transformer.wte.weight"].name == "wte.weight"
    assert opened.ignored == ("h.0.attn.bias",)


def test_old_names_of_layer_norms(make_folder):
    def older(tensors):
        for name in list(tensors):
            if "LayerNorm" in name:
                tensors[name.replace(".weight", ".gamma").replace(".bias", ".beta")] = tensors.pop(name)

    opened = open_folder(make_folder("bert", change=older))
    assert opened.tensors["bert.embeddings.LayerNorm.weight"].name == "bert.embeddings.LayerNorm.gamma"


def test_equal_copies_of_a_tied_table_are_left_out(make_folder):
    opened = open_folder(make_folder("t5", change=lambda held: held.update({"lm_head.weight": held["shared.weight"]})))
    assert opened.config.decoder.tied_embeddings
    assert opened.ignored == ("lm_head.weight",)


def test_a_tied_table_under_its_other_name(make_folder):
    def rename(tensors):
        tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")

    assert open_folder(make_folder("gpt2", change=rename)).tensors["transformer.wte.weight"].name == "lm_head.weight"


def test_a_head_of_other_values_is_no_tie(make_folder):
    def differ(tensors):
        tensors["lm_head.weight"] = tensors["shared.weight"] + 1

    folder = make_folder("t5", change=differ)
    opened = open_folder(folder)
    assert not opened.config.decoder.tied_embeddings
    assert opened.config.decoder.head.scale is not None  # what the settings say about logits still holds
    found = parameters_of(folder)
    assert (found["unembedding/table"][:50] == found["embedding/table"][:50] + 1).all()


def test_another_copy_with_other_values_is_refused(make_folder):
    def differ(tensors):
        tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"] + 1

    with pytest.raises(UserError, match=r"encoder\.embed_tokens\.weight must be a copy of shared\.weight"):
        open_folder(make_folder("t5", change=differ))


def test_is_folder(make_folder, tmp_path):
    folder = make_folder()
    assert is_folder(folder)
    assert not is_folder(tmp_path)
    (folder / "model.json").write_text("{}")
    assert not is_folder(folder)


WRONG_TENSORS = [
    (lambda held: held.pop("model.norm.weight"), r"hf_llama: tensor model\.norm\.weight is missing"),
    (lambda held: held.update(odd=np.zeros(1, np.float32)), r"model\.safetensors: tensor odd has no place"),
    (
        lambda held: held.update({"model.norm.weight": np.zeros(25, np.float32)}),
        r"model\.safetensors: tensor model\.norm\.weight has shape \(25,\), config\.json needs \(24,\)",
    ),
    (
        lambda held: held.update({"model.norm.weight": np.zeros(24, np.int8)}),
        r"model\.safetensors: tensor model\.norm\.weight is I8; quantised",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG_TENSORS)
def test_wrong_tensors(make_folder, change, message):
    with pytest.raises(UserError, match=message):
        open_folder(make_folder(change=change))


WRONG_SETTINGS = [
    ({"model_type": "resnet"}, r"config\.json: model_type 'resnet' is not a known architecture"),
    ({"num_attention_heads": "four"}, r"config\.json: .*wrong type or value"),
    ({"hidden_act": "sine"}, r"config\.json: activation 'sine'"),
    ({"num_attention_heads": 0}, r"config\.json: .*"),
    ({"vocab_size": 98}, r"tensor .* has shape \(99, 24\), config\.json needs \(98, 24\)"),
    ({"num_hidden_layers": 4}, r"tensor model\.layers\.3\.\S+ is missing"),
    ({"num_hidden_layers": 2}, r"tensor model\.layers\.2\.\S+ has no place"),
    ({"quantization_config": {"bits": 4}}, "quantised weights are not read"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS)
def test_wrong_settings(make_folder, settings, message):
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    with pytest.raises(UserError, match=message):
        open_folder(folder)


def test_missing_setting(make_folder):
    folder = make_folder()
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json: 'hidden_size' is missing"):
        open_folder(folder)


def cut(folder, size):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])


def index(folder, **places):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


WRONG_FILES = [
    (lambda folder: cut(folder, 0), r"model\.safetensors is no safetensors file"),
    (lambda folder: cut(folder, 100), r"model\.safetensors is cut off inside its header"),
    (lambda folder: cut(folder, -1), r"model\.safetensors is cut off: tensor \S+ ends at byte"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 5000), "is no safetensors file"),
    (
        lambda folder: (folder / "model.safetensors").write_bytes((9).to_bytes(8, "little") + b"{broken}}"),
        "header is broken",
    ),
    (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (50).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}'[:50].ljust(50)
        ),
        "header is broken",
    ),
    (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    (lambda folder: (folder / "config.json").write_text("{broken"), r"config\.json: not valid JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json must hold a JSON object"),
    (lambda folder: (folder / "config.json").unlink(), r"it has no config\.json"),
    (lambda folder: (folder / "generation_config.json").write_text("{"), r"generation_config\.json: not valid JSON"),
    (
        lambda folder: (folder / "generation_config.json").write_text('{"top_k": "many"}'),
        r"generation_config\.json: a setting has a wrong type",
    ),
    (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        r"only pickled weights.*LlamaForCausalLM\.from_pretrained",
    ),
    (
        lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors"),
        "copy the index",
    ),
    (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "lost.safetensors"}}'
        ),
        r"index\.json names the file 'lost\.safetensors', which does not exist",
    ),
    (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model.safetensors"}}'
        ),
        r"tensor a should be in model\.safetensors",
    ),
    (lambda folder: (folder / "model.safetensors.index.json").write_text("[]"), "has no weight_map"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_FILES)
def test_wrong_files(make_folder, change, message):
    folder = make_folder()
    change(folder)
    with pytest.raises(UserError, match=message):
        open_folder(folder)


def test_places_that_are_no_folder(make_folder, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a file"):
        open_folder(make_folder() / "config.json")
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(UserError, match="is a MODEL_DIR"):
        open_folder(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_without_permission(make_folder, monkeypatch, name):
    folder, opened = make_folder(), io.open

    def refusing(file, *arguments, **options):
        if str(file).endswith(name):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(file, *arguments, **options)

    monkeypatch.setattr(io, "open", refusing)  # a test may run as root, who may read everything
    monkeypatch.setattr(builtins, "open", refusing)
    with pytest.raises(UserError, match=rf"{name} cannot be read \(Permission denied\); change its permissions"):
        open_folder(folder)


def test_written_files_are_those_of_the_safetensors_package(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        "z": random.normal(size=(3, 5)).astype(np.float32),
        "b": random.normal(size=(7,)).astype(ml_dtypes.bfloat16),
        "ü": np.array(2, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "theirs", metadata={"format": "pt"})
    places = create(tmp_path / "ours", {name: (value.dtype, value.shape) for name, value in tensors.items()})
    for name in reversed(tensors):
        write(places[name], tensors[name])
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    found = read_header(tmp_path / "ours")
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name].read(), value)


def test_shards():
    sizes = [("a", 3), ("b", 3), ("c", 9), ("d", 1)]
    assert shards(sizes, 6) == [["a", "b"], ["c"], ["d"]]
    assert shards(sizes, 100) == [["a", "b", "c", "d"]]
    assert shards(sizes, 1) == [["a"], ["b"], ["c"], ["d"]]


def test_names_of_settings_in_published_bloom_files():
    bloom = registry.family({"model_type": "bloom"})
    published = {"model_type": "bloom", "vocab_size": 90, "n_embed": 24, "n_layer": 2, "num_attention_heads": 4}
    renamed = {"model_type": "bloom", "vocab_size": 90, "hidden_size": 24, "n_layer": 2, "n_head": 4}
    assert bloom.from_config(published) == bloom.from_config(renamed)


def test_an_older_name_of_a_changed_setting_does_not_come_back():
    bloom = registry.family({"model_type": "bloom"})
    older = {"model_type": "bloom", "vocab_size": 90, "n_embed": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    original = {**older, "pad_token_id": 3, "unknown": 5}
    for name, value, unknown in (("num_hidden_layers", 2, None), ("vocab_size", 91, 5)):
        changed = bloom.from_config({**original, name: value})
        found = matching.match(changed, original).settings
        assert matching.difference(bloom.from_config(found), changed) is None
        assert (found["pad_token_id"], found.get("unknown")) == (3, unknown)
