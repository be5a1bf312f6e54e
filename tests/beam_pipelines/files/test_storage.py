"""Local and remote files through the same few functions; fsspec's in-memory files stand for the remote ones."""

import json
import uuid

import pytest

from beam_pipelines.files import storage
from t5x_style.errors import UserError


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def put(path, content=b"x"):
    with storage.atomic_writer(path) as file:
        file.write(content)


def test_write_read_list_delete(folder):
    for name in ("b.json", "a.json", "c.txt", "deep/d.json"):
        put(storage.join(folder, name), name.encode())
    assert storage.list_files(folder, ".json") == ["a.json", "b.json"]
    assert storage.list_files(storage.join(folder, "nowhere"), ".json") == []
    with storage.open_read(storage.join(folder, "a.json")) as file:
        file.seek(2)
        assert file.read() == b"json"
    assert storage.size(storage.join(folder, "c.txt")) == 5
    put(storage.join(folder, "a.json"), b"new")
    assert storage.size(storage.join(folder, "a.json")) == 3
    for _ in range(2):
        storage.delete(storage.join(folder, "a.json"))
    assert not storage.exists(storage.join(folder, "a.json"))
    assert storage.exists(storage.join(folder, "b.json"))


def test_a_failed_write_leaves_what_was_there(folder):
    path = storage.join(folder, "a.txt")
    put(path, b"old")

    def fail_halfway():
        with storage.atomic_writer(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    with storage.open_read(path) as file:
        assert file.read() == b"old"
    assert storage.list_files(folder, "") == ["a.txt"]


def test_temporaries_of_killed_writers_are_removed(folder):
    put(storage.join(folder, ".a.txt.123.tmp"))
    put(storage.join(folder, "mine.tmp"))
    storage.remove_temporaries(folder)
    assert storage.list_files(folder, "") == ["mine.tmp"]


def test_expand(folder):
    for name in ("x-2.warc.gz", "x-1.warc.gz", "y-1.warc.gz", "notes.txt"):
        put(storage.join(folder, name))
    found = storage.expand([storage.join(folder, "y-*"), storage.join(folder, "*.warc.gz")])
    assert [path.rsplit("/", 1)[-1] for path in found] == ["y-1.warc.gz", "x-1.warc.gz", "x-2.warc.gz"]
    with pytest.raises(UserError, match="no file matches --input"):
        storage.expand([storage.join(folder, "*.arc")])


def test_a_folder_is_no_input(tmp_path):
    with pytest.raises(UserError, match="is a folder, add"):
        storage.expand([str(tmp_path)])


def test_a_scheme_without_a_driver():
    with pytest.raises(UserError, match="no driver for nosuch://"):
        storage.expand(["nosuch://bucket/x"])


def test_json(folder):
    path = storage.join(folder, "a.json")
    storage.write_json(path, {"b": 1, "a": "ä"})
    assert storage.read_json(path) == {"a": "ä", "b": 1}
    with storage.open_read(path) as file:
        assert list(json.load(file)) == ["a", "b"]
    put(path, b'{"a": ')
    with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
        storage.read_json(path)
