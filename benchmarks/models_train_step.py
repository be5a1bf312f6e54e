"""Training step: ours against transformers on torch eager, same sizes, batch, fp32, AdamW.

    python benchmarks/models_train_step.py                    a 34M LLaMA, 2 x 512 tokens
    python benchmarks/models_train_step.py --size t5          T5 small (60M), 2 x 512 encoder and 2 x 128 decoder tokens
    python benchmarks/models_train_step.py --size quickstart  the quickstart's model, 16 x 256 tokens
    python benchmarks/models_train_step.py --variants         ours alone: scan or not, remat, chunk sizes

Each side runs in a process of its own, so that neither's threads and allocator disturb the other; they take turns
step by step, and the ratio is the median over neighbouring steps, so that a processor that slows down meets both. Both
get the quickstart's allocator unless the environment says otherwise: memory in huge pages that is kept between steps.
By default a step of the 34M model takes 170,000 page faults (0.2 s of 1.6); with huge pages alone the kernel takes 0.6
of the 3.9 s of processor time of T5's step for them. Torch gains as well. Without torch and transformers only ours is
measured. On a machine that others use, compare the cpu figures (processor time / cores), which waiting does not enter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from t5x_style.models.presets.llama import llama
from t5x_style.models.presets.t5 import t5
from t5x_style.models.specs import Execution
from t5x_style.quickstart.environment import TRAINING

# model, rows, decoder tokens a row, encoder tokens a row
SIZES: dict[str, tuple[Any, int, int, int]] = {
    "34m": (llama(8192, 512, 8, 8, 8, 1408), 2, 512, 0),
    "t5": (t5("small"), 2, 128, 512),
    "quickstart": (llama(4096, 128, 4, 4, 2, 384, tied_embeddings=True), 16, 256, 0),
}
FAST = Execution(scan=False, remat="none", loss_chunk=512)
MISSING = 3  # the exit code of a side whose libraries are not installed


def draw(size: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """The configuration, decoder ids and encoder ids (no columns for a decoder)."""
    config, rows, length, sources = SIZES[size]
    random = np.random.default_rng(0)
    return (
        config,
        random.integers(2, config.vocab_size, (rows, length)),
        random.integers(2, config.vocab_size, (rows, sources)),
    )


def ours(config: Any, tokens: np.ndarray, sources: np.ndarray, execution: Execution = FAST) -> Callable[[], None]:
    """A function that makes one training step and waits for it."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from t5x_style.losses.cross_entropy import cross_entropy
    from t5x_style.models import build

    graphdef, state = nnx.split(build(config, 0, execution=execution))
    optimizer = optax.adamw(1e-3)
    inputs, targets = jnp.asarray(tokens), jnp.roll(jnp.asarray(tokens), -1, axis=1)
    given = (inputs, jnp.asarray(sources)) if sources.size else (inputs,)
    weights = jnp.ones(tokens.shape).at[:, -1].set(0)

    def step(state, moments):
        def loss(state):
            model = nnx.merge(graphdef, state)
            chunk_size = model.execution.loss_chunk
            total, count, _ = cross_entropy(model.head, model(*given), targets, weights, chunk_size=chunk_size)
            return total / count

        value, gradient = jax.value_and_grad(loss)(state)
        updates, moments = optimizer.update(gradient, moments, state)
        return optax.apply_updates(state, updates), moments, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    holder = [state, optimizer.init(state)]

    def run() -> None:
        holder[0], holder[1], value = compiled(*holder)
        value.block_until_ready()

    return run


def peer(config: Any, tokens: np.ndarray, sources: np.ndarray) -> Callable[[], None]:
    """The same step in transformers and torch, eager."""
    import torch
    import transformers

    from t5x_style.huggingface.families import llama as llama_family
    from t5x_style.huggingface.families import t5 as t5_family

    torch.set_num_threads(os.cpu_count() or 1)
    given = {"input_ids": torch.tensor(tokens), "labels": torch.tensor(tokens)}
    if sources.size:
        settings = {**t5_family.to_config(config, "t5"), "dropout_rate": 0.0, "use_cache": False}
        settings |= {"decoder_start_token_id": 0, "pad_token_id": 0}
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**settings))
        given["input_ids"] = torch.tensor(sources)
    else:
        settings = {**llama_family.to_config(config, "llama"), "use_cache": False}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def run() -> None:
        optimizer.zero_grad()
        model(**given).loss.backward()
        optimizer.step()

    return run


def timed(run: Callable[[], None]) -> tuple[float, float]:
    """(wall seconds, processor seconds / cores) of one step."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, (time.process_time() - cpu) / (os.cpu_count() or 1)


def measure(run: Callable[[], None], repeats: int) -> list[tuple[float, float]]:
    """`timed` of each step, after two to warm up."""
    return [timed(run) for _ in range(repeats + 2)][2:]


class Side:
    """One side in a process of its own, which makes a step whenever it is asked to and sleeps in between."""

    def __init__(self, side: str, size: str):
        """Starts the process, which makes two steps to warm up."""
        environment = {**TRAINING, **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, __file__, "--side", side, "--size", size]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ready(self) -> bool:
        """Whether it can be measured; False where a library is missing."""
        if self._answers.readline().strip() == "ready":
            return True
        if self._process.wait() == MISSING:
            return False
        raise SystemExit(f"a side stopped with exit code {self._process.returncode}; see its message above")

    def step(self) -> tuple[float, float]:
        """(wall seconds, processor seconds / cores) of one step."""
        self._requests.write("step\n")
        self._requests.flush()
        answer = self._answers.readline()
        if not answer:
            raise SystemExit(f"a side stopped with exit code {self._process.wait()}; see its message above")
        wall, cpu = json.loads(answer)
        return wall, cpu

    def close(self) -> None:
        """Ends the process."""
        self._requests.close()
        self._process.wait()


def one_side(side: str, size: str) -> int:
    """What the process of a `Side` does: a step and a line with its times for every line it reads."""
    config, tokens, sources = draw(size)
    try:
        run = ours(config, tokens, sources) if side == "ours" else peer(config, tokens, sources)
    except ImportError:
        return MISSING
    measure(run, 0)
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(run)), flush=True)
    return 0


def variants(size: str, repeats: int) -> None:
    """Ours alone, in other forms."""
    config, tokens, sources = draw(size)
    runs = {"as it is": ours(config, tokens, sources)}
    for scan, remat in ((True, "none"), (True, "full"), (False, "full"), (False, "dots")):
        changed = dataclasses.replace(FAST, scan=scan, remat=remat)
        runs[f"scan={scan} remat={remat}"] = ours(config, tokens, sources, changed)
    for chunk in (128, 1024, 4096):
        runs[f"chunk_size={chunk}"] = ours(config, tokens, sources, dataclasses.replace(FAST, loss_chunk=chunk))
    for name, run in runs.items():
        show(name, measure(run, repeats), tokens.size + sources.size)


def show(name: str, times: list, count: int) -> float:
    """Prints one line; returns tokens a second."""
    wall, cpu = (statistics.median(turn[which] for turn in times) for which in (0, 1))
    print(f"{name:28s} {wall * 1e3:8.0f} ms  {count / wall:8.0f} tokens/s   cpu {cpu * 1e3:8.0f} ms")
    return count / wall


def main() -> int:
    """Prints both step times and the ratio line, or our variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="34m")
    parser.add_argument("--repeats", type=int, default=20, help="steps of each side")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return one_side(arguments.side, arguments.size)
    from t5x_style.models import parameter_count

    config, tokens, sources = draw(arguments.size)
    count = tokens.size + sources.size
    shape = f"{tokens.shape[0]} x {tokens.shape[1]}" + (f" + {sources.shape[1]}" if sources.size else "")
    print(f"{parameter_count(config) / 1e6:.1f}M parameters, batch {shape}, fp32, {os.cpu_count()} cores")
    if arguments.variants:
        variants(arguments.size, arguments.repeats)
        return 0
    sides = [Side(name, arguments.size) for name in ("ours", "peer")]
    both = [side.ready() for side in sides]
    turns = [[side.step() for side, there in zip(sides, both) if there] for _ in range(arguments.repeats)]
    for side in sides:
        side.close()
    columns = list(zip(*turns))
    mine = show("ours", columns[0], count)
    if not both[1]:
        print("no peer: torch and transformers are missing; make test-parity installs them")
        return 0
    theirs = show("peer", columns[1], count)
    low, middle, high = statistics.quantiles([their[0] / our[0] for our, their in turns], n=4)
    print(
        f"ratio: {middle:.2f}x ({arguments.size} training step against transformers torch eager; ours {mine:.0f} "
        f"tokens/s; peer {theirs:.0f} tokens/s; median of {len(turns)} pairs, quartiles {low:.2f} and {high:.2f})"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
