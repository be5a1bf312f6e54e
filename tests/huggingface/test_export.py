"""MODEL_DIRs become folders: import, export, import is bit-identical; every family finds its config.json."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from orbax import checkpoint as ocp

from t5x_style.checkpoints import parameters
from t5x_style.errors import UserError
from t5x_style.huggingface import __main__ as commands
from t5x_style.huggingface import matching, registry
from t5x_style.huggingface.export_model import export_model
from t5x_style.huggingface.folder import open_folder
from t5x_style.huggingface.import_model import import_model
from t5x_style.huggingface.weights import checkpoint_arrays
from t5x_style.models import serialization
from t5x_style.models.specs import MoeSpec, PositionSpec
from tests.huggingface.conftest import drawn

NAMES = ["llama", "gpt2", "mixtral", "t5", "bert"]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def native(folder, config, dtype="float32"):
    """A MODEL_DIR as training writes it."""
    (folder / "checkpoints" / "7").mkdir(parents=True)
    (folder / "model.json").write_text(serialization.to_json(config))
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), drawn(config))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / "checkpoints" / "7" / "params", params)
    return parameters.flat(params)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", NAMES)
def test_import_export_import(make_folder, tmp_path, name, dtype):
    source = make_folder(name, dtype=dtype, **{"dtype_of_file": dtype})
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**settings, "dtype": dtype, "unknown": [1, {"a": None}]}))
    (source / "generation_config.json").write_text('{"temperature": 0.7}')
    import_model(source, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported")
    assert files_of(tmp_path / "exported") == files_of(source)
    import_model(tmp_path / "exported", tmp_path / "again")
    assert (tmp_path / "again/model.json").read_bytes() == (tmp_path / "model/model.json").read_bytes()
    ours, again = (
        checkpoint_arrays.Reader(tmp_path / folder / "checkpoints/0/params") for folder in ("model", "again")
    )
    assert (ours.shapes, ours.dtypes) == (again.shapes, again.dtypes)
    for path in ours.shapes:
        np.testing.assert_array_equal(ours.open(path)[()], again.open(path)[()], err_msg=path)


@pytest.mark.parametrize("name", [pytest.param("llama", marks=pytest.mark.slow), "mixtral"])
def test_shards_of_any_size_are_the_same_weights(make_folder, tmp_path, name):
    source = make_folder(name)
    import_model(source, tmp_path / "model")
    for size, several in (("1KB", True), ("10KB", True), ("0.5GB", False)):
        target = tmp_path / size
        command = ["export", str(tmp_path / "model"), str(target), "--max_shard_size", size]
        assert commands.main(command) == 0
        files = sorted(target.glob("*.safetensors"))
        assert (len(files) > 1) == several == (target / "model.safetensors.index.json").exists()
        found = {key: value for file in files for key, value in safetensors.numpy.load_file(file).items()}
        expected = safetensors.numpy.load_file(source / "model.safetensors")
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)
        if several:
            index = json.loads((target / "model.safetensors.index.json").read_text())
            assert index["metadata"]["total_size"] == sum(value.nbytes for value in expected.values())
            assert set(index["weight_map"]) == set(expected)
            largest = max(value.nbytes for value in expected.values())
            limit = commands.size(size)
            for file in files:
                held = safetensors.numpy.load_file(file)
                assert sum(value.nbytes for value in held.values()) <= max(limit, largest)
                assert len(held) == 1 or sum(value.nbytes for value in held.values()) <= limit
        open_folder(target)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtypes(make_folder, tmp_path, dtype):
    source = make_folder()
    import_model(source, tmp_path / "model")
    export_model(tmp_path / "model", tmp_path / "exported", dtype=dtype)
    expected = safetensors.numpy.load_file(source / "model.safetensors")
    found = {name: tensor.read() for name, tensor in open_folder(tmp_path / "exported").tensors.items()}
    for name, value in expected.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], value.astype(found[name].dtype), err_msg=name)
    assert json.loads((tmp_path / "exported/config.json").read_text())["dtype"] == dtype


def test_values_beyond_a_dtype_are_refused(make_folder, tmp_path):
    def large(tensors):
        tensors["model.norm.weight"][3] = 1e5

    import_model(make_folder(change=large), tmp_path / "model")
    with pytest.raises(UserError, match=r"model\.norm\.weight has values beyond float16; .*bfloat16"):
        export_model(tmp_path / "model", tmp_path / "exported", dtype="float16")
    assert not (tmp_path / "exported").exists()


def test_older_key_of_the_dtype_is_kept(make_folder, tmp_path):
    import_model(make_folder(torch_dtype="float16"), tmp_path / "model")
    notes = export_model(tmp_path / "model", tmp_path / "exported").notes
    assert "the weights are float32, as trained; those it started from were float16 (--dtype float16)" in notes
    found = json.loads((tmp_path / "exported/config.json").read_text())
    assert found["torch_dtype"] == "float32"
    assert "dtype" not in found


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_a_model_that_training_wrote(tmp_path, dtype):
    config = dataclasses.replace(small_llama(), vocab_multiple=16)
    params = native(tmp_path / "model", config, dtype)
    written = export_model(tmp_path / "model", tmp_path / "exported")
    assert written.model_type == "llama"
    assert written.notes == ("the model has no tokenizer; the folder has none",)
    opened = open_folder(tmp_path / "exported", config)
    assert matching.difference(open_folder(tmp_path / "exported").config, config) is None
    table = opened.tensors["model.embed_tokens.weight"].read()
    np.testing.assert_array_equal(table, np.asarray(params["embedding/table"])[: config.vocab_size])
    assert table.dtype == dtype


def small_llama():
    return registry.family({"model_type": "llama"}).from_config(
        {
            "model_type": "llama",
            "vocab_size": 70,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "hidden_act": "silu",
        }
    )


def test_initialisation_and_training_are_no_part_of_the_match(make_folder, tmp_path):
    source = make_folder("mixtral")
    import_model(source, tmp_path / "model")
    config = open_folder(source).config
    layer = config.layers[0]
    tuned = dataclasses.replace(
        config,
        init=dataclasses.replace(config.init, stddev=0.5),
        segments=(
            dataclasses.replace(
                config.segments[0],
                pattern=(dataclasses.replace(layer, mlp=dataclasses.replace(layer.mlp, z_weight=0.5)),),
            ),
        ),
    )
    (tmp_path / "model/model.json").write_text(serialization.to_json(tuned))
    export_model(tmp_path / "model", tmp_path / "exported")
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (source, tmp_path / "exported"))
    assert after == {**before, "dtype": "float32"}


def test_what_changed_is_written_over_the_original(make_folder, tmp_path):
    source = make_folder(max_position_embeddings=77, rope_scaling={"type": "linear", "factor": 2.0}, rope_theta=500.0)
    import_model(source, tmp_path / "model")
    config = open_folder(source).config
    layer = config.layers[0]
    attention = dataclasses.replace(layer.attention, window=9)
    changed = dataclasses.replace(
        config,
        segments=(dataclasses.replace(config.segments[0], pattern=(dataclasses.replace(layer, attention=attention),)),),
    )
    (tmp_path / "model/model.json").write_text(serialization.to_json(changed))
    for kind, reason in (
        ("gpt2", "gpt2 models are built of other parts"),
        (None, r"segments\[0\]\S*\.window is 9, not None"),
    ):
        shown = kind or "llama"
        with pytest.raises(UserError, match=rf"model_type '{shown}' does not hold this model: {reason}"):
            export_model(tmp_path / "model", tmp_path / "exported", model_type=kind)
    export_model(tmp_path / "model", tmp_path / "exported", model_type="mistral")
    settings = json.loads((tmp_path / "exported/config.json").read_text())
    assert settings["sliding_window"] == 9
    assert settings["model_type"] == "mistral"
    assert settings["max_position_embeddings"] == 77
    assert "rope_scaling" not in settings
    assert open_folder(tmp_path / "exported").config == changed


@pytest.mark.parametrize("name", NAMES)
def test_the_family_is_found_without_the_original(make_folder, name):
    config = open_folder(make_folder(name)).config
    match = matching.match(config)
    assert match.settings["model_type"] == name
    assert match.family.from_config(match.settings) == config


def test_no_family_holds_the_model():
    config = small_llama()
    layer = config.layers[0]
    mlp = MoeSpec(4, 2, layer.mlp, mode="capacity")
    odd = dataclasses.replace(
        config,
        segments=(dataclasses.replace(config.segments[0], pattern=(dataclasses.replace(layer, mlp=mlp),)),),
        embedding=dataclasses.replace(config.embedding, positions=PositionSpec("learned", 12, 5)),
    )
    with pytest.raises(
        UserError, match=r"no known architecture of Hugging Face holds this DecoderConfig; known are \S+"
    ):
        matching.match(odd)
    with pytest.raises(UserError, match=r"'mixtral' does not hold this model: segments\[0\]\S+\.mode is 'capacity'"):
        matching.match(odd, model_type="mixtral")
    with pytest.raises(UserError, match=r"model_type 'resnet' is not a known architecture; known are .*llama"):
        matching.match(odd, model_type="resnet")


def test_wrong_input(make_folder, tmp_path):
    source = make_folder()
    with pytest.raises(UserError, match=r"is no MODEL_DIR"):
        export_model(source, tmp_path / "exported")
    import_model(source, tmp_path / "model")
    with pytest.raises(UserError, match="holds no checkpoint of step 3; it has 0"):
        export_model(tmp_path / "model", tmp_path / "exported", step=3)
    other = serialization.to_json(dataclasses.replace(open_folder(source).config, vocab_size=200))
    (tmp_path / "model/model.json").write_text(other)
    with pytest.raises(UserError, match=r"parameter embedding/table has shape \(128, 24\) .*\(256, 24\)"):
        export_model(tmp_path / "model", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    assert commands.main(["export", str(tmp_path / "model"), str(source)]) == 2


def test_a_damaged_checkpoint_is_one_line(make_folder, tmp_path):
    import_model(make_folder(), tmp_path / "model")
    damaged = tmp_path / "model/checkpoints/0/params/final_norm.scale"
    (chunk,) = [path for path in damaged.iterdir() if path.name[0] != "."]
    content = chunk.read_bytes()
    for broken in (content[:-4], b"not compressed", None):
        chunk.write_bytes(broken) if broken is not None else chunk.unlink()
        with pytest.raises(UserError, match=r"params: parameter final_norm/scale cannot be read"):
            export_model(tmp_path / "model", tmp_path / "exported")
        assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("1.5GB", 1_500_000_000), ("500mb", 500_000_000), ("2GiB", 2**31), ("7", 7), ("1 KB", 1000)]
)
def test_sizes(text, size):
    assert commands.size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0GB", "1TB", "five"])
def test_wrong_sizes(text):
    with pytest.raises(UserError, match="is no size"):
        commands.size(text)


def test_chunks_divide_large_arrays():
    assert checkpoint_arrays.chunk_shape((32, 4096, 11008), 2, 1) == (1, 683, 11008)
    assert checkpoint_arrays.chunk_shape((4, 8, 16), 4, 2) == (1, 1, 16)
    assert checkpoint_arrays.chunk_shape((10**9,), 4, 0) == (4_184_101,)
    assert checkpoint_arrays.chunk_shape((), 4, 0) == ()
    assert checkpoint_arrays.chunk_shape((3, 0), 4, 1) == (1, 1)


def test_large_arrays_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_arrays, "CHUNK", 64)
    random = np.random.default_rng(0)
    values = {
        "large/kernel": random.normal(size=(3, 2, 5, 7)).astype(np.float32),
        "small/scale": random.normal(size=(3, 4)).astype(np.float32),
        "zero/bias": np.zeros((2, 40), np.float32),
        "whole/table": random.normal(size=(11, 9)).astype(np.float16),
    }
    places = {"large/kernel": np.ndindex(3, 2), "small/scale": np.ndindex(3), "zero/bias": np.ndindex(2)}
    arrays = {path: (value.shape, value.dtype) for path, value in values.items()}
    writer = checkpoint_arrays.Writer(tmp_path / "params", arrays)
    for path, value in values.items():
        for place in places.get(path, [()]):
            writer.write(path, place, value[place])
    writer.finish()
    assert len(list((tmp_path / "params/large.kernel").glob("[0-9]*"))) > 6
    reader = checkpoint_arrays.Reader(tmp_path / "params")
    for path, value in values.items():
        np.testing.assert_array_equal(reader.open(path)[()], value)
        for place in list(np.ndindex(value.shape[:1])):
            np.testing.assert_array_equal(reader.open(path)[place], value[place])


def test_the_commands_of_the_documentation(make_folder, tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "huggingface.md"
    lines = [line for line in page.read_text().splitlines() if line.startswith("python -m t5x_style.huggingface ")]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta-llama").mkdir()
    make_folder().rename(tmp_path / "meta-llama" / "Llama-3.2-1B")
    for line in lines:
        assert commands.main(line.split()[3:]) == 0, line
    assert open_folder("out/llama_half").tensors["model.norm.weight"].dtype == np.float16
