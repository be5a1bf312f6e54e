"""Folders become MODEL_DIRs: the same weights, streamed; whole or not at all; straight into sharded models."""

import logging
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from t5x_style import model_dir
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.errors import UserError
from t5x_style.huggingface import __main__ as commands
from t5x_style.huggingface import load
from t5x_style.huggingface.folder import open_folder
from t5x_style.huggingface.import_model import import_model
from t5x_style.huggingface.output_folder import output_folder
from tests.huggingface.conftest import FAMILIES, tensors_of, write_folder


def read_back(model, config):
    """Parameters by path, as training and evaluation restore them."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = parameters.nested(load.abstract_parameters(config))
    placed = checkpoints.with_shardings(abstract, jax.tree.map(lambda _: device, abstract))
    params, step = checkpoints.load_params(model, placed)
    assert step == 0
    return parameters.flat(params)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "t5", "bert"])
def test_a_model_dir_has_the_weights(make_folder, tmp_path, name):
    source, target = make_folder(name, shards=2, dtype="bfloat16"), tmp_path / "model"
    written = import_model(source, target)
    opened = open_folder(source)
    assert model_dir.read_config(target) == opened.config
    shapes = {path: leaf.shape for path, leaf in load.abstract_parameters(opened.config).items()}
    found = read_back(target, opened.config)
    for path, value in load.read_parameters(opened, shapes):
        np.testing.assert_array_equal(np.asarray(found[path]), value.astype(np.float32), err_msg=path)
    tensors = [safetensors.numpy.load_file(file) for file in source.glob("*.safetensors")]
    assert written.parameters == sum(value.size for held in tensors for value in held.values())
    assert written.nbytes == 2 * written.parameters


def test_files_travel_as_they_came(make_folder, tmp_path):
    source = make_folder()
    for name in ("generation_config.json", "modeling_odd.py", "special_tokens_map.json", "README.md"):
        (source / name).write_text(f'{{"of": "{name}"}}')
    import_model(source, tmp_path / "model")
    found = {str(path.relative_to(tmp_path / "model")) for path in (tmp_path / "model").rglob("*.*") if path.is_file()}
    kept = {"huggingface/config.json", "huggingface/generation_config.json", "huggingface/modeling_odd.py"}
    assert {name for name in found if not name.startswith("checkpoints/")} == {
        *kept,
        "model.json",
        "tokenizer/special_tokens_map.json",
    }
    assert (tmp_path / "model/huggingface/config.json").read_bytes() == (source / "config.json").read_bytes()


def word_tokenizer(folder, words):
    import tokenizers

    vocabulary = {f"w{number}": number for number in range(words - 1)} | {"[UNK]": words - 1}
    tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(("words", "note"), [(99, None), (90, "has 90 ids, the embedding table 99 rows"), (100, "")])
def test_the_tokenizers_size(make_folder, tmp_path, words, note):
    source = make_folder()
    word_tokenizer(source, words)
    if words <= 99:
        notes = import_model(source, tmp_path / "model").notes
        assert notes == (() if note is None else (f"the tokenizer {note}",))
        return
    with pytest.raises(UserError, match=r"tokenizer\.json: the tokenizer gives ids up to 99, .* has 99 rows"):
        import_model(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    import_model(source, tmp_path / "model", skip_tokenizer_check=True)
    assert (tmp_path / "model/tokenizer/tokenizer.json").is_file()


def test_nothing_is_left_after_an_error(make_folder, tmp_path, capsys):
    source = make_folder()
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    before = sorted(tmp_path.iterdir())
    assert commands.main(["import", str(source), str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "model.safetensors is cut off: tensor " in error
    assert sorted(tmp_path.iterdir()) == before


def test_the_last_line_says_what_was_written(make_folder, tmp_path, capsys):
    assert commands.main(["import", str(make_folder()), str(tmp_path / "model")]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith(f"{tmp_path}/model: llama, 18,744 parameters, 74,976 bytes of weights in ")


def test_a_full_target_is_refused(make_folder, tmp_path):
    source = make_folder()
    (tmp_path / "model").mkdir()
    import_model(source, tmp_path / "model")  # an empty folder is as good as none
    with pytest.raises(UserError, match="exists and is not empty"):
        import_model(source, tmp_path / "model")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="exists and is not empty"):
        import_model(source, tmp_path / "file")
    with pytest.raises(UserError, match="cannot be written"):
        import_model(source, tmp_path / "file" / "model")


class TestOutputFolder:
    def test_what_a_killed_run_left_is_removed(self, tmp_path):
        (tmp_path / ".model.incomplete" / "deep").mkdir(parents=True)
        (tmp_path / ".model.incomplete" / "old").write_text("")
        with output_folder(tmp_path / "model") as working:
            assert list(working.iterdir()) == []
            (working / "new").write_text("")
            assert not (tmp_path / "model").exists()
        assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_nothing_stays(self, tmp_path, error):
        def stop():
            with output_folder(tmp_path / "model") as working:
                (working / "half").write_text("")
                raise error

        with pytest.raises(error):
            stop()
        assert list(tmp_path.iterdir()) == []

    def test_two_at_once(self, tmp_path):
        with (
            output_folder(tmp_path / "model"),
            pytest.raises(UserError, match="another process"),
            output_folder(tmp_path / "model"),
        ):
            pass
        assert (tmp_path / "model").is_dir()

    def test_no_room(self, tmp_path):
        with pytest.raises(UserError, match=r"1000000000\.00 GB are needed"), output_folder(tmp_path / "model", 10**18):
            pass
        with (
            pytest.raises(UserError, match="the disk is full"),
            output_folder(tmp_path / "model"),
        ):
            raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "left"),
    [(signal.SIGINT, []), pytest.param(signal.SIGKILL, [".model.incomplete"], marks=pytest.mark.slow)],
)
def test_a_stopped_import_leaves_no_model(make_folder, tmp_path, how, left):
    source = make_folder(num_hidden_layers=2)
    code = (
        "import sys, time\n"
        "from t5x_style.huggingface import __main__, load\n"
        "place = load._reader\n"
        "def slow(*arguments):\n"
        "    sys.stdout.write('reading\\n'); sys.stdout.flush(); time.sleep(60)\n"
        "load._reader = slow\n"
        "raise SystemExit(__main__.main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "import", str(source), str(tmp_path / "model")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline() == "reading\n"
    time.sleep(0.1)
    process.send_signal(how)
    assert process.wait(60) == (130 if how == signal.SIGINT else -how)
    process.stdout.close()
    assert [path.name for path in tmp_path.iterdir() if path != source] == left
    import_model(source, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, "model"])


MEMORY = """
import json, sys
from t5x_style.huggingface import load, import_model, export_model
from t5x_style.huggingface.weights import safetensors_files
def kilobytes(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name + ":"))
import tensorstore
folder, model, exported = sys.argv[1:]
load.abstract_parameters(import_model.folders.open_folder(folder).config)
before = kilobytes("VmRSS")
if exported:
    export_model.export_model(model, exported, max_shard_size=70_000_000)
else:
    import_model.import_model(folder, model)
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the kernel does not tell the peak of memory")
def test_memory_is_bounded(make_folder, tmp_path):
    size = {"vocab_size": 1000, "hidden_size": 512, "intermediate_size": 2560, "num_hidden_layers": 22}
    source = make_folder(shards=3, dtype="bfloat16", **size)
    sizes = [path.stat().st_size for path in source.glob("*.safetensors")]
    stack = 22 * 512 * 2560 * 2
    assert sum(sizes) > 200e6

    def grown(*folders):
        command = [sys.executable, "-c", MEMORY, *map(str, folders)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])

    limit = 1.3 * (max(sizes) + stack)
    assert limit < sum(sizes)  # or a reader of everything would pass
    peaks = grown(source, tmp_path / "model", ""), grown(source, tmp_path / "model", tmp_path / "exported")
    logging.info("import %.0f MB, export %.0f MB, allowed %.0f MB", *(value / 1e6 for value in (*peaks, limit)))
    assert max(peaks) < limit, (peaks, limit)


SHARDED = """
import sys
import jax, numpy as np
from t5x_style import mesh as meshes
from t5x_style.huggingface import load
from t5x_style.huggingface.folder import open_folder
from t5x_style.models.specs import DtypePolicy
from t5x_style.checkpoints import parameters
assert jax.device_count() == 8
for name in sys.argv[1:]:
    folder = open_folder(name)
    shapes = {path: leaf.shape for path, leaf in load.abstract_parameters(folder.config).items()}
    whole = dict(load.read_parameters(folder, shapes))
    for sizes in (dict(fsdp=8), dict(tensor=8), dict(fsdp=2, tensor=2, data=2), dict(fsdp=4, expert=2)):
        config = meshes.MeshConfig(**{"data": 1, **sizes})
        resolver = meshes.Resolver(meshes.make_mesh(config), config.resolved_tables)
        for policy in (DtypePolicy(), DtypePolicy(params="bfloat16")):
            found = parameters.flat(load.load_sharded(folder, resolver, policy))
            assert set(found) == set(whole)
            split = 0
            for path, value in found.items():
                assert value.dtype == policy.params
                np.testing.assert_array_equal(np.asarray(value), whole[path].astype(value.dtype), err_msg=path)
                split += not value.sharding.is_fully_replicated
            assert split > len(found) // 2 if sizes != dict(tensor=8) else split, (sizes, split)
    print("equal", folder.path.name, flush=True)
"""


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """What one process of eight devices says of all folders."""
    root, wide = tmp_path_factory.mktemp("sharded"), {"hidden_size": 32, "intermediate_size": 48}
    folders = []
    for name in ("llama", "mixtral", "t5"):
        settings = {**FAMILIES[name], **({} if name == "t5" else wide)}
        folders.append(str(write_folder(root / name, settings, tensors_of(settings), 3)))
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", SHARDED, *folders]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["llama", "mixtral", "t5"])
def test_sharded_load_is_bit_identical(sharded, name):
    assert f"equal {name}" in sharded.stdout.splitlines(), sharded.stderr[-2000:]
