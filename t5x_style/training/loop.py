"""The loop: restore or start, then step, log, evaluate, checkpoint; stop cleanly on a signal and continue exactly.

Metrics of step n are read while step n + 1 runs, so the host never waits for the device it has just given work to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from t5x_style import mesh as meshes
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.progress import Progress
from t5x_style.training import evaluation, lock, memory, metrics, multihost, profile, settings, throughput
from t5x_style.training.feed import Feed
from t5x_style.training.run import TrainRun
from t5x_style.training.run_models import POLICY
from t5x_style.training.setup import Setup, set_up
from t5x_style.training.signals import Interrupted, StopSignals
from t5x_style.training.start import start
from t5x_style.training.state import Arrays, TrainState


@dataclasses.dataclass
class Pending:
    """A step whose metrics are still on the device; tokens: of this process, by side."""

    step: int
    values: dict[str, jax.Array]
    tokens: dict[str, int]


def train(run: TrainRun, open_loader: Any, noted: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Runs `run` to its last step, from the newest checkpoint of its model_dir if there is one.

    Args:
      run: the run, with its architecture (check_run.resolve).
      open_loader: (DataConfig, rows) -> a source of batches, see feed.Feed: t5x_style.data's loader, any iterator with
        its interface, or one that samples from the model between steps.

      noted: called on the writer once the run is known to fit what it starts from: writes what describes it
        (model_dir.create).

    Returns:
      The last values of the training and evaluation metrics.

    Raises:
      UserError: the configuration does not fit the devices, the data or the checkpoint; or the run diverged.
      Interrupted: a signal stopped it; the checkpoint of the last finished step is on disk.
    """
    setup = set_up(run)
    with lock.held(run.model_dir):
        return _Loop(run, setup, open_loader, noted).run_all()


class _Loop:
    """The loop's own variables; one instance a run."""

    def __init__(self, run: TrainRun, setup: Setup, open_loader: Any, noted: Callable[[], None]):
        self.run, self.setup, self.open_loader, self.noted = run, setup, open_loader, noted
        self.feed = Feed(run.data, setup, open_loader)
        self.steps_seen = 0  # since it was started
        self.checkpoints = checkpoints.Checkpoints(run.model_dir, run.keep_checkpoints)
        self.last: dict[str, float] = {}
        self.pending: Pending | None = None
        self.trace = profile.Trace(run.model_dir)
        self.speed = throughput.Speed(setup.models[POLICY], run.data)

    def run_all(self) -> dict[str, float]:
        run, setup = self.run, self.setup
        logging.info("memory:\n%s", memory.table(setup))
        with contextlib.ExitStack() as stack:  # all are closed, in reverse order, whatever one of them raises
            for close in (self.feed.close, self.checkpoints.close, self._stop_profile):
                stack.callback(close)
            began = start(run, setup, self.checkpoints)  # without the mesh in force: shapes of models are made in it
            if began.loader is not None:
                self.feed.source.set_state(began.loader)
                done = ": nothing is left to do" if began.step == run.steps else ""
                logging.info("continuing %s from step %d of %d%s", run.model_dir, began.step, run.steps, done)
            if multihost.is_writer():
                self.noted()
            self.writer = metrics.Writer(run.model_dir, began.step, run.tensorboard, multihost.is_writer())
            stack.callback(self.writer.close)
            with StopSignals() as signals, Progress("train", run.steps, "steps") as progress:
                progress.update(began.step)
                with meshes.use(setup.mesh, setup.resolver.tables):
                    self._steps(began.state, began.frozen, began.step, signals, progress)
        return self.last

    def _steps(self, state: TrainState, frozen: Arrays, start: int, signals: StopSignals, progress: Progress) -> None:
        run = self.run
        self.speed.restart(start)
        due = stop = False
        for step in range(start + 1, run.steps + 1):
            self._profile(step)
            batch, tokens = self.feed.next(state, frozen)
            with jax.transfer_guard("disallow"):
                state, values = self.setup.train_step(state, frozen, batch)
            self._report_pending(progress)
            self.pending = Pending(step, values, tokens)
            if step == start + 1:
                jax.block_until_ready(values)  # compilation is not counted as training time
                self.speed.restart(step)
                gc.collect()
                gc.freeze()  # long-lived objects of start-up are not scanned again
            due |= step == run.steps or step % run.checkpoint_every == 0
            stop |= self._stop(step, signals)
            save = (due or stop) and (self.feed.at_boundary or step == run.steps)
            evaluate = run.evaluation is not None and (step % run.evaluation.every == 0 or step == run.steps)
            if evaluate or save:
                self._report_pending(progress)
            if evaluate:
                self._evaluate(state, frozen, step)
            if save:
                self._save(step, state)
                due = False
            if stop and save:
                raise Interrupted(f"stopped at step {step} of {run.steps}")
        compiled = self.setup.train_step._cache_size()
        declared = len(run.data.batch_shapes_of_parts())
        assert compiled <= declared, f"the train step was compiled {compiled} times for {declared} batch shapes"

    def _stop(self, step: int, signals: StopSignals) -> bool:
        """Has a signal come? Several processes ask each other, at the steps that are logged."""
        if jax.process_count() > 1 and step % self.run.log_every:
            return False
        if jax.process_count() > 1:  # it would be waited for in any case; on CPU two programs in flight can deadlock
            jax.block_until_ready(self.pending.values if self.pending else None)
        return multihost.agree(signals.received is not None)

    def _report_pending(self, progress: Progress) -> None:
        """Reads the metrics of the step before, checks the guard, logs every `log_every` steps."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        values = {name: float(value) for name, value in jax.device_get(pending.values).items()}
        self.speed.count(pending.tokens)
        self.steps_seen += 1
        lost = not math.isfinite(values["loss"]) and values["streak"] >= self.steps_seen
        if pending.step == self.run.steps and lost:
            raise UserError(
                f"{self.run.model_dir}: none of its {self.steps_seen} updates was finite (loss {values['loss']:.3g}): "
                "nothing was learned; lower the learning rate, or look at the data"
            )
        if values["streak"] >= self.run.guard.patience:
            raise UserError(
                f"{self.run.model_dir}: {int(values['streak'])} updates in a row were not finite or spiked, up to step "
                f"{pending.step}; lower the learning rate and continue from the last checkpoint"
            )
        if pending.step % self.run.log_every == 0 or pending.step == self.run.steps:
            values |= self.speed.values(pending.step)
            self.writer.write(pending.step, "train", values)
            self.last.update(values)
            self.speed.restart(pending.step)
        rate = self.last.get("tokens_per_second")
        note = f"loss {values['loss']:.3f}" + (f", {rate:,.0f} tokens/s" if rate else "")
        progress.update(pending.step, note)

    def _evaluate(self, state: TrainState, frozen: Arrays, step: int) -> None:
        """Held-out metrics: sums over all batches, divided once."""
        began = time.monotonic()
        values = evaluation.evaluate(self.run, self.setup, self.open_loader, state, frozen)
        self.writer.write(step, "eval", values)
        self.last.update({f"eval_{name}": value for name, value in values.items()})
        told = ", ".join(f"{name} {values[name]:.4g}" for name in ("loss", "perplexity") if name in values)
        logging.info("step %d: eval %s", step, told)
        self.speed.exclude(time.monotonic() - began)

    def _save(self, step: int, state: TrainState) -> None:
        states = multihost.gather_json(self.feed.source.get_state())
        merged = self.feed.source.merge_states(states)
        metadata: dict[str, Any] = {"step": step, "time": time.time(), "steps": self.run.steps}
        metadata["settings"] = settings.settings(self.run)
        self.checkpoints.save(step, state.items(), merged, metadata)
        self.writer.flush()

    def _profile(self, step: int) -> None:
        """Starts and stops the profiler at the configured steps."""
        if self.run.profile_steps is None or not multihost.is_writer():
            return
        first, last = self.run.profile_steps
        if step == first:
            self.trace.start()
        elif step == last + 1:
            self._stop_profile()

    def _stop_profile(self) -> None:
        self.trace.stop()
