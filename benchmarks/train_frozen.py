"""A classification head over a frozen trunk: the partitioned step against one whose optimizer is masked.

    python -m benchmarks.train_frozen

Three programs of one run (BERT L2 H128, unrolled, 16 x 128 tokens, fp32): all parameters tuned; only the head, the
trunk an argument that is not differentiated (TrainRun.trainable); and only the head by the usual mask, every gradient
computed and the optimizer leaving the trunk as it is. FLOPs and temporaries are the compiled programs' own; programs
take turns.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.harness import Comparison, ratio_line
from t5x_style import mesh as meshes
from t5x_style.data.batches import BatchSpec, Field
from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.losses.task_heads import TaskHeads
from t5x_style.models import Execution
from t5x_style.models.presets.bert import bert
from t5x_style.models.specs import TaskHeadSpec
from t5x_style.training.optimizers import AdamW, Optimizer
from t5x_style.training.run import TrainRun
from t5x_style.training.schedules import Constant
from t5x_style.training.setup import set_up
from t5x_style.training.start import draw

ROWS, LENGTH, VOCAB = 16, 128, 1024
HEAD = ("task_heads/*",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled(CausalLM):
    """Declares the fields of the hand-made batch; it makes none."""

    @property
    def spec(self) -> BatchSpec:
        """Encoder fields and those of the head `topic`."""
        roles: dict[str, Any] = {"segment_ids": "segment_ids", "positions": "positions"}
        names = ("input_tokens", "segment_ids", "positions", "topic_labels", "topic_weights")
        return BatchSpec(tuple(Field(f"encoder_{name}", "encoder", roles.get(name, "given")) for name in names))


@dataclasses.dataclass(frozen=True)
class Masked(Optimizer):
    """An optimizer that computes all and applies the head's updates."""

    inner: AdamW

    def build(self, axes: dict[str, Any]) -> optax.GradientTransformation:
        """optax.masked around the inner one, zeros elsewhere."""
        labels = {name: "head" if "/task_heads/" in name else "rest" for name in axes}
        return optax.multi_transform({"head": self.inner.build(axes), "rest": optax.set_to_zero()}, labels)


def batch() -> dict[str, np.ndarray]:
    """One row a document, with a class."""
    random = np.random.default_rng(0)
    tokens = random.integers(4, VOCAB, (1, ROWS, LENGTH)).astype(np.int32)
    return {
        "encoder_input_tokens": tokens,
        "encoder_segment_ids": np.ones_like(tokens),
        "encoder_positions": np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape),
        "encoder_topic_labels": np.broadcast_to(tokens[..., :1] % 3, tokens.shape),
        "encoder_topic_weights": np.ones(tokens.shape, np.float32),
    }


def program(trainable: tuple[str, ...] | None, optimizer: Any) -> tuple[Any, Callable[[], float]]:
    """The compiled step, and a function that runs it once and gives its seconds."""
    task = TaskHeadSpec("topic", "classification", ("a", "b", "c"), pool="first")
    config = dataclasses.replace(bert("l2-h128", VOCAB), head=None, tied_embeddings=False, tasks=(task,))
    run = TrainRun(
        model_dir="none",
        model=config,
        data=DataConfig("none", "none", Labelled(), batch_size=ROWS, length=LENGTH, streams=1),
        tokenizer="none",
        optimizer=optimizer,
        steps=1,
        loss=TaskHeads({"topic": "classification"}),
        trainable=trainable,
        execution=Execution(scan=False, remat="none"),
    )
    setup = set_up(run)
    state, frozen = draw(run, setup)
    given = jax.device_put(batch())
    with meshes.use(setup.mesh, setup.resolver.tables):
        compiled = setup.train_step.lower(state, frozen, given).compile()
    held = [state]

    def once() -> float:
        began = time.perf_counter()
        held[0], metrics = compiled(held[0], frozen, given)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    once()
    return compiled, once


def main() -> None:
    """Prints a line a program and the ratio."""
    adam = AdamW(Constant(1e-3))
    programs = {
        "all": program(None, adam),
        "head": program(HEAD, adam),
        "masked": program(None, Masked(adam.schedule, adam)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(20):
        for name, (_, once) in programs.items():
            seconds[name].append(once())
    for name, (compiled, _) in programs.items():
        flops, temporaries = compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes
        print(f"{name:<7} {flops:.3e} FLOPs  {temporaries / 2**20:6.2f} MiB  {1e3 * np.median(seconds[name]):6.1f} ms")
    result = Comparison(float(np.median(seconds["head"])), float(np.median(seconds["masked"])), 20)
    print(ratio_line("step of a head over a frozen trunk against a masked optimizer", "s", result, False))


if __name__ == "__main__":
    main()
