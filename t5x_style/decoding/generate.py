"""Batched generation: one program for the prompts, one for all the steps, each compiled once a shape bucket."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.decoding import cache as kv
from t5x_style.decoding.buckets import MIN_LENGTH, bucket, check_rows, left_padded
from t5x_style.decoding.sampling import GREEDY, Sampling, sample
from t5x_style.errors import UserError
from t5x_style.models.decoder import Decoder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Progress:
    """A batch that is being generated.

    Attributes:
      cache: keys and values so far. last: [B] tokens not yet in the cache. positions: [B] theirs.
      tokens: [B, room] what was drawn. done: [B] rows that drew the end. step: tokens drawn.
    """

    cache: kv.KVCache
    last: jax.Array
    positions: jax.Array
    tokens: jax.Array
    done: jax.Array
    step: jax.Array


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    eos_id: int | None = None,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    row_seeds: Sequence[int] | None = None,
    batch_size: int = 32,
) -> list[list[int]]:
    """Continues each prompt.

    Args:
      model: a Decoder; `prepare` it first when calling more than once.
      prompts: ids, start id included, none empty; lengths may differ.
      max_new_tokens: at most so many are drawn a row. eos_id: ends a row; it is not part of the result.
      seed: of all rows together. row_seeds: one seed a prompt instead, for equal draws in any batch.
      batch_size: rows that run together; prompts of similar length do.

    Returns:
      the new ids of each prompt, in the order of the prompts.

    Raises:
      UserError: an empty prompt, an id outside the vocabulary, max_new_tokens below 1.
    """
    if max_new_tokens < 1 or batch_size < 1:
        raise UserError(f"generate: max_new_tokens {max_new_tokens} and batch_size {batch_size} must be at least 1")
    check_rows(prompts, model.config.vocab_size, "prompt")
    if row_seeds is not None and len(row_seeds) != len(prompts):
        raise UserError(f"generate: {len(row_seeds)} row_seeds for {len(prompts)} prompts; give one a prompt")
    seeds = _row_seeds(seed, len(prompts)) if row_seeds is None else np.asarray(row_seeds, np.uint32)
    graphdef, state = nnx.split(kv.prepare(model))
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    results: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        drawn = _generate_batch(
            graphdef, state, [prompts[row] for row in rows], max_new_tokens, eos_id, sampling, seeds[rows]
        )
        for row, tokens in zip(rows, drawn):
            results[row] = tokens
    return results


def _row_seeds(seed: int, rows: int) -> np.ndarray:
    return np.random.SeedSequence(seed).generate_state(max(rows, 1))[:rows]


def _generate_batch(
    graphdef: Any,
    state: Any,
    prompts: list[Sequence[int]],
    max_new_tokens: int,
    eos_id: int | None,
    sampling: Sampling,
    seeds: np.ndarray,
) -> list[list[int]]:
    batch, length = bucket(len(prompts)), bucket(max(map(len, prompts)), MIN_LENGTH)
    room = bucket(max_new_tokens, MIN_LENGTH)
    tokens, segments, positions = left_padded(prompts, batch, length)
    padded_seeds = np.zeros(batch, np.uint32)
    padded_seeds[: len(prompts)] = seeds
    done = np.arange(batch) >= len(prompts)
    end = np.int32(-1 if eos_id is None else eos_id)
    progress = _prefill(graphdef, state, tokens, segments, positions, padded_seeds, done, end, room, sampling)
    progress = _continue(graphdef, state, progress, padded_seeds, end, np.int32(max_new_tokens), sampling)
    drawn, count = np.asarray(progress.tokens), int(progress.step)
    return [_until(row[:count].tolist(), eos_id) for row in drawn[: len(prompts)]]


def _until(row: list[int], eos_id: int | None) -> list[int]:
    return row[: row.index(eos_id)] if eos_id is not None and eos_id in row else row


@functools.partial(jax.jit, static_argnames=("graphdef", "room", "sampling"))
def _prefill(graphdef, state, tokens, segments, positions, seeds, done, end, room, sampling) -> Progress:
    """Runs the prompts through the model and draws each row's first token."""
    model = nnx.merge(graphdef, state)
    batch, length = tokens.shape
    cache = kv.empty(model.config, model.policy, batch, length + room)
    hidden, cache = model(tokens, segment_ids=segments, positions=positions, cache=cache)
    first = sample(_logits(model, hidden[:, -1]), seeds, jnp.int32(0), sampling)
    drawn = jnp.zeros((batch, room), jnp.int32).at[:, 0].set(first)
    return Progress(cache, first, positions[:, -1] + 1, drawn, done | (first == end), jnp.int32(1))


@functools.partial(jax.jit, static_argnames=("graphdef", "sampling"), donate_argnames=("progress",))
def _continue(graphdef, state, progress, seeds, end, limit, sampling) -> Progress:
    """Draws until every row is done or `limit` tokens are drawn; the loop stays on the device."""

    def step(p: Progress) -> Progress:
        model = nnx.merge(graphdef, state)
        hidden, cache = model(p.last[:, None], positions=p.positions[:, None], cache=p.cache)
        token = sample(_logits(model, hidden[:, 0]), seeds, p.step, sampling)
        tokens = jax.lax.dynamic_update_slice(p.tokens, token[:, None], (0, p.step))
        return Progress(cache, token, p.positions + 1, tokens, p.done | (token == end), p.step + 1)

    return jax.lax.while_loop(lambda p: (p.step < limit) & ~jnp.all(p.done), step, progress)


def _logits(model: Decoder, hidden: jax.Array) -> jax.Array:
    return model.head.logits(hidden)[:, : model.config.vocab_size]
