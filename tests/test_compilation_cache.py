"""Where compiled programs are kept, when they are not, and what is deleted when they are too many."""

import os

import pytest

from t5x_style import compilation_cache as cache


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


@pytest.fixture
def full(tmp_path):
    """(newest file first) Ten files of 100 bytes, a second apart, and a folder, which is no program."""
    (tmp_path / "folder").mkdir()
    files = [tmp_path / f"{(7 * age) % 10}" for age in range(10)]  # names in another order than times
    for age, file in enumerate(files):
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    return files


def test_folder_is_in_the_home_one_for_each_kind_of_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = cache.folder()
    assert place.parent == tmp_path / ".cache" / "t5x_style"
    assert place.name.startswith("compiled-")
    assert place == cache.folder()
    monkeypatch.setattr(cache.platform, "machine", lambda: "another")
    assert place != cache.folder()


def test_folder_is_in_xdg_cache_home_where_that_is_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.folder().parent == tmp_path / "xdg" / "t5x_style"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard: to be ignored
    assert cache.folder().parent == tmp_path / "home" / ".cache" / "t5x_style"


def test_the_variable_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv(cache.VARIABLE, "~/programs")
    assert cache.folder() == tmp_path / "programs"
    monkeypatch.setenv(cache.VARIABLE, "programs")
    monkeypatch.chdir(tmp_path)
    assert cache.folder() == tmp_path / "programs"


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_off(monkeypatch, value):
    monkeypatch.setenv(cache.VARIABLE, value)
    assert cache.folder() is None
    assert cache.environment() == {}


def test_environment_makes_the_folder_and_keeps_every_program(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "new" / "programs"))
    assert cache.environment() == {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "new" / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    assert (tmp_path / "new" / "programs").is_dir()


def test_environment_shrinks_the_folder(monkeypatch, tmp_path, full):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    monkeypatch.setattr(cache, "LIMIT_BYTES", 500)
    cache.environment()
    assert [file.exists() for file in full] == [True] * 4 + [False] * 6


def test_home_that_cannot_be_written_has_no_cache(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.environment() == {}


def test_shrink_deletes_the_oldest_and_stops_at_four_fifths(tmp_path, full):
    assert cache.shrink(tmp_path, 1000) == 0
    assert all(file.exists() for file in full)
    assert cache.shrink(tmp_path, 999) == 3
    assert [file.exists() for file in full] == [True] * 7 + [False] * 3
    assert (tmp_path / "folder").is_dir()


def test_shrink_goes_on_where_another_process_deletes_too(monkeypatch, tmp_path, full):
    unlink = os.unlink

    def race(path):
        unlink(path)
        unlink(path)  # it was gone already

    monkeypatch.setattr(cache.os, "unlink", race)
    assert cache.shrink(tmp_path, 999) == 3
