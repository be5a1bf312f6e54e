"""What one process of benchmarks/gpu_train.py measures: the device's ceilings, or one form of the training step.

    python -m benchmarks.gpu_train_measure '{"job": "step", "size": "tiny", "rows": 2, "remat": "full", "scan": true,
                                             "loss_chunk": 64}'

Prints JSON objects, one a line, each with all that is known by then: of a process that is stopped, the last one counts.
The step is the project's own (t5x_style.training.setup), compiled ahead and run on one packed batch over and over.

Floating-point operations, forward and backward, of one token, nothing recomputed counted (Chowdhery et al. 2022, PaLM,
appendix B): 6 for each parameter in a matrix, the head's included and the embedding look-up not, and for attention
12 * heads * head_dim a layer for each key. PaLM takes `length` keys a token, whatever the mask hides; `tflops` counts
the keys that a token sees: those of its own document up to itself. Both are reported, `tflops` is the figure.
"""

from __future__ import annotations

import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style import mesh as meshes
from t5x_style.data.batches import CAUSAL_LM
from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.packing import Placed, assemble_rows
from t5x_style.errors import UserError, run_main
from t5x_style.models import flops_per_token, parameter_count
from t5x_style.models.presets.llama import llama3_2
from t5x_style.models.specs import DecoderConfig, DtypePolicy, Execution
from t5x_style.training.optimizers import AdamW
from t5x_style.training.run import TrainRun
from t5x_style.training.schedules import Constant
from t5x_style.training.setup import set_up
from t5x_style.training.start import draw

GIB = 2**30
WARM_STEPS, FEWEST_STEPS = 2, 3
POLICY = DtypePolicy(compute="bfloat16")  # parameters, moments, softmax and logits in float32, as gin/models has it
Tell = Callable[[dict[str, Any]], None]


class Size(NamedTuple):
    """What is measured.

    Attributes:
      model: a preset. length: tokens a row.
      products: (m, k, n) of the matrix products for the ceiling. copies: bytes of the arrays that are copied.
    """

    model: Callable[..., DecoderConfig]
    length: int
    products: tuple[tuple[int, int, int], ...]
    copies: tuple[int, ...]


# 16384 x 2048 x 8192 is the 1B model's MLP over 4 rows; cubes reach a GPU's best.
SIZES = {
    "1b": Size(
        functools.partial(llama3_2, "1b"),
        4096,
        ((4096, 4096, 4096), (8192, 8192, 8192), (16384, 16384, 16384), (16384, 2048, 8192)),
        (2**28, 2**30, 2**31),
    ),
    "tiny": Size(functools.partial(llama3_2, "tiny"), 64, ((256, 256, 256),), (2**22,)),
}


def packed_batch(rows: int, length: int, vocab_size: int) -> dict[str, np.ndarray]:
    """A microbatch of full rows, [1, rows, length] by field (t5x_style/data/batches.py), the same in every process.

    Documents are log-normal with a median of an eighth of a row (512 tokens of 4,096, as web pages have), the last of a
    row is cut to what is left. Row r is the same whatever `rows` is.
    """
    segments, row_of = [], []
    for row in range(rows):
        random = np.random.default_rng([0, row])
        left = length
        while left:
            size = min(left, max(2, int(random.lognormal(math.log(length / 8), 1.0))))
            tokens = random.integers(4, vocab_size, size, np.int32)
            segments.append(Placed({"decoder_target_tokens": tokens}, source=0, start=3, sizes=(size,)))
            row_of.append(row)
            left -= size
    packed = assemble_rows(segments, np.array(row_of), rows, CAUSAL_LM, {"decoder": length}, pad=0)
    return {name: array[None] for name, array in packed.items() if name != "source_ids"}


def token_flops(config: DecoderConfig, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Operations of one token: by the keys it sees in this batch, by PaLM's formula, and the share of keys seen."""
    positions = batch["decoder_positions"]
    length = positions.shape[-1]
    matrices = flops_per_token(config, 0)
    palm = flops_per_token(config, length)
    seen = float(np.mean(positions + 1)) / length  # the token at position p of its document sees p + 1 keys
    return {
        "flops_per_token": matrices + (palm - matrices) * seen,
        "flops_per_token_palm": palm,
        "keys_seen": seen,
        "documents": int(np.sum(positions == 0)),
    }


def training_run(size: str, rows: int, remat: str, scan: bool, loss_chunk: int) -> TrainRun:
    """The run whose step is measured; nothing of it is read from or written to disk."""
    data = DataConfig("none", "synthetic", CausalLM(), batch_size=rows, length=SIZES[size].length, streams=1)
    return TrainRun(
        model_dir="none",
        model=SIZES[size].model(),
        data=data,
        tokenizer="none",
        optimizer=AdamW(Constant(1e-4)),
        steps=1,
        policy=POLICY,
        execution=Execution(scan, remat, loss_chunk=loss_chunk),
        tensorboard=False,
    )


def measure_step(
    row: dict[str, Any],
    tell: Tell,
    *,
    size: str,
    rows: int,
    remat: str,
    scan: bool,
    loss_chunk: int,
    steps: int = 6,
    seconds: float = 6.0,
) -> None:
    """Fills `row` with one form's figures; tells them as they come.

    Args:
      steps: to be timed at most. seconds: no further step is timed after these, once there are three.
    """
    run = training_run(size, rows, remat, scan, loss_chunk)
    host = packed_batch(rows, run.data.length, run.model.vocab_size)
    row |= token_flops(run.model, host)
    began = time.perf_counter()
    prepared = set_up(run)
    with meshes.use(prepared.mesh, run.mesh.resolved_tables):
        where = meshes.batch_sharding(prepared.mesh, run.mesh.resolved_tables, rank=3, leading=1)
        batch = {name: jax.device_put(array, where) for name, array in host.items()}
        step = prepared.train_step.lower(prepared.abstract, prepared.frozen, batch).compile()
        row |= {"compile_s": time.perf_counter() - began, "program_gib": program_bytes(step) / GIB}
        tell(row)
        state, frozen = jax.block_until_ready(draw(run, prepared))
        times, metrics = timed_steps(functools.partial(_stepped, step, frozen, batch), state, steps, seconds)
    loss, skipped = float(metrics["loss"]), int(metrics["skipped"])
    if skipped or not math.isfinite(loss):
        raise RuntimeError(f"loss {loss}, {skipped} updates skipped: these were no training steps")
    middle = statistics.median(times)
    rate, peak = rows * run.data.length / middle, peak_bytes()
    row |= {
        "outcome": "measured",
        "step_ms": middle * 1e3,
        "steps_ms": [value * 1e3 for value in times],
        "tokens_per_s": rate,
        "tflops": rate * row["flops_per_token"] / prepared.mesh.size / 1e12,
        "tflops_palm": rate * row["flops_per_token_palm"] / prepared.mesh.size / 1e12,
        "peak_gib": None if peak is None else peak / GIB,
        "loss": loss,
    }


def _stepped(step: Any, frozen: Any, batch: Any, state: Any) -> tuple[Any, dict[str, Any]]:
    return step(state, frozen, batch)


def timed_steps(step: Any, state: Any, steps: int, seconds: float) -> tuple[list[float], dict[str, Any]]:
    """Seconds of each step, each waited for, after two to warm up; and the metrics of the last."""
    times: list[float] = []
    metrics: dict[str, Any] = {}
    for index in range(WARM_STEPS + steps):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state))
        if index >= WARM_STEPS:
            times.append(time.perf_counter() - began)
        if len(times) >= FEWEST_STEPS and sum(times) > seconds:
            break
    return times, metrics


def program_bytes(compiled: Any) -> int:
    """What the compiler plans for one device: arguments, results and temporaries, donated arrays counted once."""
    plan = compiled.memory_analysis()
    whole = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return whole - plan.alias_size_in_bytes


def peak_bytes() -> int | None:
    """Most bytes that this process has had allocated on a device; None where the backend does not count (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    known = [entry["peak_bytes_in_use"] for entry in stats if "peak_bytes_in_use" in entry]
    return max(known, default=None)


def call_seconds(call: Callable[[], jax.Array], rounds: int = 5) -> float:
    """Seconds of one call on the device: the median round of calls that are waited for together, about 50 ms each."""
    call().block_until_ready()  # compiles
    began = time.perf_counter()
    call().block_until_ready()
    calls = max(1, min(50, int(0.05 / (time.perf_counter() - began))))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            last = call()
        last.block_until_ready()
        times.append((time.perf_counter() - began) / calls)
    return statistics.median(times)


def measure_ceilings(row: dict[str, Any], tell: Tell, *, size: str) -> None:
    """Fills `row` with the device, the model, and the rates of bf16 products and of copies on the first device.

    Raises:
      UserError: the 1B model without an accelerator.
    """
    shape, first = SIZES[size], jax.local_devices()[0]
    if first.platform == "cpu" and size != "tiny":
        raise UserError(f"--size {size} needs a GPU, but JAX {jax.__version__} finds only a CPU; try --size tiny")
    config, limit = shape.model(), (first.memory_stats() or {}).get("bytes_limit")
    kind, count = first.device_kind, jax.device_count()
    row["device"] = {"kind": kind, "count": count, "jax": jax.__version__, "limit_gib": limit and limit / GIB}
    row["model"] = {"name": f"LLaMA 3.2 {size}", "parameters": parameter_count(config), "length": shape.length}
    row["products"], row["copies"] = [], []
    tell(row)
    keys, product, copy = jax.random.split(jax.random.key(0)), jax.jit(jnp.matmul), jax.jit(jnp.copy)
    for m, k, n in shape.products:  # random values: zeros draw less power and run faster
        a, b = (jax.random.uniform(*one, jnp.bfloat16, -1) for one in zip(keys, ((m, k), (k, n))))
        rate = 2 * m * k * n / call_seconds(functools.partial(product, a, b)) / 1e12
        row["products"].append({"shape": [m, k, n], "tflops": rate})
        tell(row)
    for size_bytes in shape.copies:
        array = jax.random.bits(keys[0], (size_bytes // 4,), jnp.uint32)
        rate = 2 * size_bytes / call_seconds(functools.partial(copy, array)) / 1e9  # read and written
        row["copies"].append({"bytes": size_bytes, "gb_per_s": rate})
        tell(row)
    row["outcome"] = "measured"


JOBS: dict[str, Callable[..., None]] = {"ceilings": measure_ceilings, "step": measure_step}


def measure(work: Callable[..., None], tell: Tell, **settings: Any) -> None:
    """Runs one of JOBS and tells its row; out of memory and a UserError are results, another error is raised too."""
    row: dict[str, Any] = {}
    try:
        work(row, tell, **settings)
    except Exception as error:
        message = str(error).partition("\n")[0]
        message = message if isinstance(error, UserError) else f"{type(error).__name__}: {message}"
        full = isinstance(error, jax.errors.JaxRuntimeError) and _is_out_of_memory(str(error))
        row |= {"outcome": "out of memory" if full else "failed", "error": message}
        tell(row)
        if not full and not isinstance(error, UserError):
            raise
    else:
        tell(row)


def _is_out_of_memory(message: str) -> bool:
    """Allocation says RESOURCE_EXHAUSTED; CUDA's own libraries pass on the driver's CUDA_ERROR_OUT_OF_MEMORY."""
    return "RESOURCE_EXHAUSTED" in message or "OUT_OF_MEMORY" in message


def main(argv: Sequence[str]) -> int:
    """Does the job that the one argument describes."""
    settings = json.loads(argv[0])
    measure(JOBS[settings.pop("job")], lambda row: print(json.dumps(row), flush=True), **settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_main(main))
