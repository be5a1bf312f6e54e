"""The loop: restore or start, then step, log, evaluate, checkpoint; stop cleanly on a signal and continue exactly.

Metrics of step n are read while step n + 1 runs, so the host never waits for the device it has just given work to.
"""

from __future__ import annotations

import dataclasses
import gc
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import jax
import numpy as np
from absl import logging

from t5x_style import mesh as meshes
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.models import flops_per_token
from t5x_style.progress import Progress
from t5x_style.training import memory, metrics, multihost, throughput
from t5x_style.training.run import TrainRun
from t5x_style.training.setup import Setup, set_up
from t5x_style.training.state import Params, TrainState


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal after it had saved its state."""


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a flag that the loop reads between steps; a second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: the caller handles signals
                logging.info("signals are not handled here: the loop does not run in the main thread")
                break
        return self

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self.__exit__()
            raise KeyboardInterrupt
        self.received = number
        logging.warning("signal %d: stopping after this step with a checkpoint (again: stop at once)", number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


@dataclasses.dataclass
class Pending:
    """A step whose metrics are still on the device."""

    step: int
    values: dict[str, jax.Array]
    tokens: int


def train(run: TrainRun, open_loader: Any) -> dict[str, float]:
    """Runs `run` to its last step, from the newest checkpoint of its model_dir if there is one.

    Args:
      run: the run; its model_dir has been made (see t5x_style.model_dir.create).
      open_loader: (DataConfig, rows) -> an iterator of batches with get_state and set_state; t5x_style.data's, or
        any other with that interface.

    Returns:
      The last values of the training and evaluation metrics.

    Raises:
      UserError: the configuration does not fit the devices, the data or the checkpoint; or the run diverged.
      Interrupted: a signal stopped it; the checkpoint of the last finished step is on disk.
    """
    setup = set_up(run)
    with meshes.use(setup.mesh, run.mesh.resolved_tables):
        return _Loop(run, setup, open_loader).run_all()


class _Loop:
    """The loop's own variables; one instance a run."""

    def __init__(self, run: TrainRun, setup: Setup, open_loader: Any):
        self.run, self.setup = run, setup
        tables = run.mesh.resolved_tables
        self.batch_sharding = meshes.batch_sharding(setup.mesh, tables, rank=3, leading=1)
        self.rows = run.data.batch_size // run.data.accumulation
        local = meshes.local_rows(self.batch_sharding, self.rows, leading=1)
        self.open_loader = lambda data: open_loader(data, None if jax.process_count() == 1 else local)
        self.loader = self.open_loader(run.data)
        self.checkpoints = checkpoints.Checkpoints(run.model_dir, run.keep_checkpoints)
        self.last: dict[str, float] = {}
        self.pending: Pending | None = None
        self.tracing = False
        self.peak = throughput.peak_flops()
        self.flops = flops_per_token(run.model, run.data.length)

    def run_all(self) -> dict[str, float]:
        state, start = self._restore_or_start()
        self.writer = metrics.Writer(self.run.model_dir, start, self.run.tensorboard, multihost.is_writer())
        try:
            with StopSignals() as signals, Progress("train", self.run.steps, "steps") as progress:
                progress.update(start)
                self._steps(state, start, signals, progress)
        finally:
            self._stop_profile()
            self.checkpoints.close()
            self.writer.close()
            self.loader.close()
        return self.last

    def _restore_or_start(self) -> tuple[TrainState, int]:
        run, setup = self.run, self.setup
        gradients, abstract = setup.gradients, setup.abstract
        logging.info(
            "memory:\n%s",
            memory.table(abstract.params, gradients, abstract.optimizer, setup.resolver.replicated),
        )
        latest = self.checkpoints.latest()
        if latest is not None:
            items, loader_state, _ = self.checkpoints.restore(latest, abstract.items())
            self.loader.set_state(loader_state)
            logging.info("continuing %s from step %d of %d", run.model_dir, latest, run.steps)
            return TrainState.of_items(items), latest
        state = setup.initialise()
        if run.init_from:
            state = dataclasses.replace(state, params=_starting_params(run, abstract.params))
        return state, 0

    def _put(self, batch: dict[str, np.ndarray]) -> tuple[dict[str, jax.Array], int]:
        """Moves a host batch to the devices; returns it and its number of tokens on this process."""
        tokens = int(np.count_nonzero(batch["decoder_segment_ids"]))

        def one(array: np.ndarray) -> jax.Array:
            if jax.process_count() == 1:
                return jax.device_put(array, self.batch_sharding)
            shape = (array.shape[0], self.rows, *array.shape[2:])
            return jax.make_array_from_process_local_data(self.batch_sharding, array, shape)

        fields = {name: one(array) for name, array in batch.items() if name != "source_ids"}
        return fields, tokens

    def _steps(self, state: TrainState, start: int, signals: StopSignals, progress: Progress) -> None:
        run = self.run
        self.timed_from, self.timed_tokens, self.timed_step = time.monotonic(), 0, start
        for step in range(start + 1, run.steps + 1):
            self._profile(step)
            batch, tokens = self._put(next(self.loader))
            with jax.transfer_guard("disallow"):
                state, values = self.setup.train_step(state, batch)
            self._report_pending(progress)
            self.pending = Pending(step, values, tokens)
            if step == start + 1:
                jax.block_until_ready(values)  # compilation is not counted as training time
                self.timed_from, self.timed_tokens, self.timed_step = time.monotonic(), 0, step
                gc.collect()
                gc.freeze()  # long-lived objects of start-up are not scanned again
            stop = self._stop(step, signals)
            evaluate = run.evaluation is not None and (step % run.evaluation.every == 0 or step == run.steps)
            if evaluate or stop or step == run.steps or step % run.checkpoint_every == 0:
                self._report_pending(progress)
            if evaluate:
                self._evaluate(state, step)
            if stop or step == run.steps or step % run.checkpoint_every == 0:
                self._save(step, state)
            if stop:
                raise Interrupted(f"stopped at step {step} of {run.steps}")
        compiled = self.setup.train_step._cache_size()
        assert compiled <= 1, f"the train step was compiled {compiled} times: a batch changed shape"

    def _stop(self, step: int, signals: StopSignals) -> bool:
        """Has a signal come? Several processes ask each other, at the steps that are logged."""
        if jax.process_count() > 1 and step % self.run.log_every:
            return False
        return multihost.agree(signals.received is not None)

    def _report_pending(self, progress: Progress) -> None:
        """Reads the metrics of the step before, checks the guard, logs every `log_every` steps."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        values = {name: float(value) for name, value in jax.device_get(pending.values).items()}
        self.timed_tokens += pending.tokens
        if values["streak"] >= self.run.guard.patience:
            raise UserError(
                f"{self.run.model_dir}: {int(values['streak'])} updates in a row were not finite or spiked, up to step "
                f"{pending.step}; lower the learning rate and continue from the last checkpoint"
            )
        if pending.step % self.run.log_every == 0 or pending.step == self.run.steps:
            elapsed = time.monotonic() - self.timed_from
            steps = pending.step - self.timed_step
            if steps > 0 and elapsed > 0:
                values["tokens_per_second"] = self.timed_tokens * jax.process_count() / elapsed
                values["seconds_per_step"] = elapsed / steps
                if self.peak:
                    values["mfu"] = values["tokens_per_second"] * self.flops / self.peak
            values["memory_gib"] = throughput.memory_bytes() / 2**30
            self.writer.write(pending.step, "train", values)
            self.last.update(values)
            self.timed_from, self.timed_tokens, self.timed_step = time.monotonic(), 0, pending.step
        rate = self.last.get("tokens_per_second")
        note = f"loss {values['loss']:.3f}" + (f", {rate:,.0f} tokens/s" if rate else "")
        progress.update(pending.step, note)

    def _evaluate(self, state: TrainState, step: int) -> None:
        """Held-out loss: the sum over tokens of all batches, divided once."""
        assert self.run.evaluation is not None
        began = time.monotonic()
        loss = weights = 0.0
        for batch in self._eval_batches():
            sums = self.setup.eval_step(state.params, self._put(batch)[0])
            loss, weights = loss + float(sums[0]), weights + float(sums[1])
        if not weights:
            raise UserError(f"evaluation data {self.run.evaluation.data.name!r} has no token to predict")
        values = {"loss": loss / weights, "perplexity": float(np.exp(loss / weights)), "tokens": weights}
        self.writer.write(step, "eval", values)
        self.last.update({f"eval_{name}": value for name, value in values.items()})
        logging.info("step %d: eval loss %.4f, perplexity %.2f", step, values["loss"], values["perplexity"])
        self.timed_from += time.monotonic() - began  # not training time

    def _eval_batches(self) -> Iterator[dict[str, np.ndarray]]:
        evaluation = self.run.evaluation
        assert evaluation is not None
        loader = self.open_loader(evaluation.data)
        try:
            for index, batch in enumerate(loader):
                if evaluation.batches is not None and index >= evaluation.batches:
                    break
                yield batch
        finally:
            loader.close()

    def _save(self, step: int, state: TrainState) -> None:
        states = multihost.gather_json(self.loader.get_state())
        merged = self.loader.merge_states(states)
        self.checkpoints.save(step, state.items(), merged, {"step": step, "time": time.time(), "steps": self.run.steps})

    def _profile(self, step: int) -> None:
        """Starts and stops the profiler at the configured steps."""
        if self.run.profile_steps is None or not multihost.is_writer():
            return
        first, last = self.run.profile_steps
        if step == first:
            jax.profiler.start_trace(f"{self.run.model_dir}/profile")
            self.tracing = True
        elif step == last + 1:
            self._stop_profile()

    def _stop_profile(self) -> None:
        if self.tracing:
            jax.profiler.stop_trace()
            self.tracing = False


def _starting_params(run: TrainRun, abstract: Params) -> Params:
    """The parameters of `init_from`, in the shardings and dtypes of `abstract`."""
    from t5x_style.huggingface import folder as folders
    from t5x_style.huggingface import load

    assert run.init_from is not None
    if folders.is_folder(run.init_from):
        params = load.load_params(folders.open_folder(run.init_from, run.model), abstract)
        logging.info("parameters from the Hugging Face folder %s", run.init_from)
        return params
    params, step = checkpoints.load_params(run.init_from, abstract)
    logging.info("parameters from %s, step %d", run.init_from, step)
    return params
