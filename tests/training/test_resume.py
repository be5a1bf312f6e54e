"""What a run goes on from: its models and extras as they were, and what has changed since is told."""

import dataclasses
import multiprocessing
import shutil
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import pytest

import t5x_style
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.dpo import DPO
from t5x_style.losses.loss import ModelSource, Sums
from t5x_style.models.presets import llama
from t5x_style.models.specs import DtypePolicy
from t5x_style.training import lock, settings
from t5x_style.training.extras import Ema, Extra
from t5x_style.training.optimizers import AdamW, Lion
from t5x_style.training.schedules import Constant
from tests.training.hand_made import packed
from tests.training.test_kinds import OLD, pairs, run_of, trained

pytestmark = pytest.mark.usefixtures("quick_to_compile")


@dataclasses.dataclass(frozen=True)
class Two(CrossEntropy):
    """Two models with a loss each; what trains of the second is all."""

    def models(self) -> Mapping[str, ModelSource]:
        return {"value": ModelSource(trainable=("*",))}

    def weights(self, batch):
        return {name: super(Two, self).weights(batch)["cross_entropy"] for name in ("policy", "value")}

    def __call__(self, models, batch, now):
        found = {name: super(Two, self).__call__({"policy": models[name]}, batch, now) for name in ("policy", "value")}
        return Sums({name: sums.losses["cross_entropy"] for name, sums in found.items()}, found["value"].metrics)


@dataclasses.dataclass(frozen=True)
class Coefficient(Extra):
    """A single number."""

    def init(self, trainable):
        return jnp.float32(1)

    def update(self, value, trainable, metrics, applied):
        return value * 0.5


def straight_and_stopped(tmp_path, batch, first=2, steps=4, again=None, **changes):
    """The losses of a run, and of the same one stopped after `first` steps and gone on with `changes`."""
    run = run_of(tmp_path / "straight", batch, steps=steps, checkpoint_every=first, **(again or {}))
    straight = trained(run, batch)
    run = dataclasses.replace(run, model_dir=str(tmp_path / "stopped"))
    trained(dataclasses.replace(run, steps=first), batch)
    return straight, trained(dataclasses.replace(run, **changes), batch)


def test_two_models_train_are_saved_and_go_on(tmp_path):
    batch = packed(96)
    start = {"model": llama.llama(96, 8, 1, 2, 1), "loss": Two(), "extras": {"ema": Ema(), "half": Coefficient()}}
    straight, stopped = straight_and_stopped(tmp_path, batch, again=start)
    assert stopped == straight
    policy, average = (t5x_style.load_model(tmp_path / "stopped", average=name).model for name in (None, "ema"))
    assert not np.array_equal(policy.embedding.table[...], average.embedding.table[...])


def test_only_another_model_trains(tmp_path):
    batch = packed(96)
    start = {"model": llama.llama(96, 8, 1, 2, 1), "loss": Two(), "trainable": ()}
    straight, stopped = straight_and_stopped(tmp_path, batch, again=start)
    assert stopped == straight
    assert checkpoints.steps(tmp_path / "stopped") == [2, 4]
    assert t5x_style.load_model(tmp_path / "stopped").logits([[5, 6]]).shape == (1, 2, 96)


def test_a_drawn_reference_is_drawn_again_with_the_seed_of_the_start(tmp_path):
    start = {"model": llama.llama(128, 8, 1, 2, 1), "loss": DPO(beta=1.0)}
    straight, stopped = straight_and_stopped(tmp_path, pairs(), again=start, seed=5)
    assert stopped == pytest.approx(straight, rel=1e-6)


def test_a_reference_of_another_format_is_the_same_when_the_run_goes_on(tmp_path):
    loss = DPO(ModelSource(policy=DtypePolicy()), beta=1.0)
    start = {
        "init_from": str(OLD),
        "loss": loss,
        "policy": DtypePolicy(params="bfloat16"),
        "optimizer": AdamW(Constant(0.0)),
    }
    straight, stopped = straight_and_stopped(tmp_path, pairs(), again=start)
    assert stopped == straight


def test_another_reference_is_refused_and_so_are_other_weights_in_its_place(tmp_path):
    batch = pairs()
    shutil.copytree(OLD, tmp_path / "old")
    shutil.copytree(OLD, tmp_path / "other")
    run = run_of(tmp_path / "run", batch, loss=DPO(ModelSource(str(tmp_path / "old"))), init_from=str(OLD), steps=1)
    trained(run, batch)
    later = dataclasses.replace(run, steps=2)
    with pytest.raises(UserError, match=r"reference started from .*/old and now from .*/other; put it back"):
        trained(dataclasses.replace(later, loss=DPO(ModelSource(str(tmp_path / "other")))), batch)
    mark = tmp_path / "old" / "checkpoints" / "4" / "_CHECKPOINT_METADATA"
    mark.write_text(mark.read_text().replace('"commit_timestamp_nsecs": 1', '"commit_timestamp_nsecs": 2'))
    with pytest.raises(UserError, match="has changed since"):
        trained(later, batch)


def test_a_run_goes_on_without_the_folder_it_started_from(tmp_path):
    batch = packed(128)
    shutil.copytree(OLD, tmp_path / "old")
    run = run_of(tmp_path / "run", batch, init_from=str(tmp_path / "old"), steps=1)
    trained(run, batch)
    shutil.rmtree(tmp_path / "old")
    assert len(trained(dataclasses.replace(run, steps=2), batch)) == 2


def test_what_has_changed_is_told(tmp_path, caplog):
    batch = packed(96)
    run = run_of(tmp_path, batch, model=llama.llama(96, 8, 1, 2, 1), steps=2)
    trained(run, batch)
    with pytest.raises(UserError, match=r"step 2, is of another run: optimizer was AdamW, is now Lion; put it back"):
        trained(dataclasses.replace(run, steps=3, optimizer=Lion(Constant(1e-3))), batch)
    with pytest.raises(UserError, match=r"is at step 2, TrainRun.steps is 1; give more steps"):
        trained(dataclasses.replace(run, steps=1), batch)
    caplog.set_level("INFO", "absl")
    trained(dataclasses.replace(run, steps=3, optimizer=AdamW(Constant(1e-3))), batch)
    assert "changed since the checkpoint: optimizer.schedule.peak was 0.01, is now 0.001" in caplog.text
    assert "changed since the checkpoint: steps was 2, is now 3" in caplog.text


def test_settings_by_name():
    before = {"steps": "10", "optimizer": "AdamW", "optimizer.beta1": "0.9", "same": "1"}
    now = {"steps": "20", "optimizer": "Lion", "optimizer.beta2": "0.9", "same": "1"}
    assert settings.changed(before, now) == ["optimizer was AdamW, is now Lion", "steps was 10, is now 20"]


def _hold(folder, ready, done):
    with lock.held(folder):
        ready.set()
        done.wait(60)


def test_a_folder_belongs_to_one_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path), ready, done))
    other.start()
    assert ready.wait(60)
    with (
        pytest.raises(UserError, match=rf"another process trains there \(process {other.pid} on "),
        lock.held(str(tmp_path)),
    ):
        pass
    done.set()
    other.join()
    with lock.held(str(tmp_path)):
        pass
