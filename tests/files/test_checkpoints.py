"""Checkpoints on memory:// and S3, and which folders count as finished ones anywhere."""

import functools
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from t5x_style import files
from t5x_style.checkpoints import checkpoints, finished, remote
from t5x_style.checkpoints.checkpoints import Checkpoints
from t5x_style.errors import UserError

OLD = Path(__file__).parent.parent / "fixtures" / "model_dir_0.1"


def state(value):
    return {"params": {"a": {"w": jnp.full(4, value)}}, "optimizer": {"m": jnp.full(3, -value)}}


ABSTRACT = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0.0))


def save(run, *steps):
    for step in steps:
        run.save(step, state(float(step)), {"at": step}, {"step": step})


def test_save_keep_restore_and_continue(root):
    run = Checkpoints(root, keep=2)
    assert run.latest() is None
    save(run, 1, 2, 3)
    run.wait()
    assert (run.latest(), checkpoints.steps(root)) == (3, [2, 3])
    assert files.list_names(files.join(root, "checkpoints")) == ["2", "3"]
    save(run, 3)  # already there
    run.close()
    assert not run._uploads.staging.exists()

    run = Checkpoints(root, keep=2)
    items, loader, metadata = run.restore(run.latest(), ABSTRACT)
    np.testing.assert_array_equal(items["params"]["a"]["w"], np.full(4, 3.0))
    np.testing.assert_array_equal(items["optimizer"]["m"], np.full(3, -3.0))
    assert (loader, metadata) == ({"at": 3}, {"step": 3})
    save(run, 4)
    run.close()
    assert checkpoints.steps(root) == [3, 4]
    params, step = checkpoints.load_params(root, ABSTRACT["params"], 3)
    assert (float(params["a"]["w"][0]), step) == (3.0, 3)
    with pytest.raises(UserError, match=r"holds no checkpoint of step 2; it has 3, 4"):
        checkpoints.load_params(root, ABSTRACT["params"], 2)


def test_an_upload_that_was_cut_off_is_ignored_and_removed(root, monkeypatch):
    run = Checkpoints(root)
    save(run, 1)
    run.wait()
    with monkeypatch.context() as patch:
        patch.setattr(remote, "commit", functools.partial(_raise, OSError("the machine is gone")))
        save(run, 2)
        with pytest.raises(UserError, match=r"a checkpoint could not be uploaded \(the machine is gone\)"):
            run.close()
    cut = files.join(root, "checkpoints", "2")
    assert "commit_success.txt" in files.list_names(cut)  # whole but for the marker
    assert checkpoints.steps(root) == [1]

    run = Checkpoints(root)
    assert run.latest() == 1
    run.restore(1, ABSTRACT)
    save(run, 3)
    run.close()
    assert checkpoints.steps(root) == [1, 3]
    assert not files.exists(cut)


def _raise(error, *_):
    raise error


def test_a_removal_that_was_cut_off_leaves_no_checkpoint(root, monkeypatch):
    run = Checkpoints(root, keep=1)
    save(run, 1)
    run.wait()
    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_tree", functools.partial(_raise, OSError("gone")))
        save(run, 2)
        with pytest.raises(UserError, match="gone"):
            run.wait()
    assert checkpoints.steps(root) == [2]
    assert "params" in files.list_names(files.join(root, "checkpoints", "1"))
    save(run, 3)
    run.close()
    assert files.list_names(files.join(root, "checkpoints")) == ["3"]


def test_a_failed_upload_is_told_at_the_next_save_and_damage_when_it_is_read(root, monkeypatch):
    run = Checkpoints(root)
    with monkeypatch.context() as patch:
        patch.setattr(files, "upload", functools.partial(_raise, UserError("s3://b: no permission")))
        save(run, 1)
        with pytest.raises(UserError, match="no permission"):
            save(run, 2)
    save(run, 2)
    run.wait()
    marker = files.read_json(files.join(root, "checkpoints", "2", "commit.json"))
    assert (marker["format"], marker["step"]) == (1, 2)
    lost = next(name for name in marker["files"] if name.startswith("params/d/"))
    files.remove(files.join(root, "checkpoints", "2", lost))
    with pytest.raises(UserError, match="does not exist"):
        run.restore(2, ABSTRACT)
    run.close()


def test_a_local_folder_that_was_copied_there_counts_and_is_never_removed(root):
    files.upload(OLD / "checkpoints", files.join(root, "checkpoints"))
    files.atomic_write_text(files.join(root, "checkpoints", "3", "params", "x"), "of somebody")
    assert checkpoints.steps(root) == [4]
    run = Checkpoints(root)
    save(run, 5)
    run.close()
    assert checkpoints.steps(root) == [4, 5]
    assert files.exists(files.join(root, "checkpoints", "3", "params", "x"))


def test_several_processes_are_refused(root, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"a run of several processes writes checkpoints to gs:// or to a folder"):
        Checkpoints(root)


def test_what_counts_on_the_local_disk(tmp_path):
    """By commit facts; a folder in the way of Orbax's numbers is set aside, so no save is left out."""
    shutil.copytree(OLD, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for step in ("12", "13", "14", "notes"):
        (folder / step).mkdir()
    (folder / "12" / "params").mkdir()
    shutil.copytree(folder / "4" / "params", folder / "13" / "params")  # items, and nobody said that it is done
    shutil.copytree(folder / "4", folder / "15")
    (folder / "15" / "params" / "_METADATA").unlink()  # a removal that was cut off
    shutil.copytree(folder / "4", folder / "16")
    (folder / "16" / "commit_success.txt").unlink()
    begun = json.loads((folder / "16" / "_CHECKPOINT_METADATA").read_text()) | {"commit_timestamp_nsecs": None}
    (folder / "16" / "_CHECKPOINT_METADATA").write_text(json.dumps(begun))
    assert checkpoints.steps(tmp_path / "run") == [4]
    assert finished.unfinished(tmp_path / "run") == [12, 13, 14, 15, 16]
    run = Checkpoints(tmp_path / "run")
    assert run.latest() == 4
    save(run, 5)
    run.close()
    assert checkpoints.steps(tmp_path / "run") == [4, 5]
    assert (folder / "12.unfinished-0" / "params").is_dir()


def test_an_old_run_and_an_import_count(tmp_path):
    assert checkpoints.steps(OLD) == [4]
    with ocp.StandardCheckpointer() as checkpointer:  # as imports write it: the item alone
        checkpointer.save(tmp_path / "checkpoints" / "0" / "params", state(1.0)["params"])
    assert checkpoints.steps(tmp_path) == [0]
    assert checkpoints.steps(tmp_path / "nothing") == []


def test_orbax_gets_the_unchanged_url_of_google_storage(tmp_path, monkeypatch):
    """No network: a Path of it would be <working directory>/gs:/bucket."""
    monkeypatch.chdir(tmp_path)
    given = []

    class Manager:
        def __init__(self, folder, options):
            assert options.enable_async_checkpointing
            given.append(folder)

    monkeypatch.setattr(ocp, "CheckpointManager", Manager)
    monkeypatch.setattr(finished, "chosen", lambda model_dir, step: 7)
    monkeypatch.setattr(checkpoints.files, "list_names", lambda folder: ["params"])
    Checkpoints("gs://bucket/run/")
    with checkpoints.params_folders("gs://bucket/run") as (places, _):
        given.append(places[0][0])
    assert given == ["gs://bucket/run/checkpoints", "gs://bucket/run/checkpoints/7/params"]
    assert os.environ["EPATH_USE_TF"] == "0"
    assert list(tmp_path.iterdir()) == []
