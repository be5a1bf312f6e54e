"""Beam search with the rules of transformers' `generate`: the same candidates, the same order, the same end.

Every step takes the (1 + end ids) * beams best continuations of all beams of a prompt, by summed log-probability. Those
that end (or are as long as allowed) and are among the first `beams` compete for the finished list by their score
divided by length ** length_penalty; the best others go on. Array suffixes: B prompts, N beams, M = candidates, T ids.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.decoding import cache as kv
from t5x_style.decoding.buckets import MIN_LENGTH, bucket
from t5x_style.decoding.checks import real, whole_number
from t5x_style.decoding.prompts import PromptBatch, history, next_positions, prefill
from t5x_style.decoding.sampling import Sampling, penalize, without
from t5x_style.errors import UserError

NEVER = -1e9  # added to the score of what must not be chosen; finite, so that an order remains among such


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """How a beam search ends and what it prefers.

    Attributes:
      beams: hypotheses kept a prompt.
      length_penalty: a finished hypothesis of n new ids, its end included, scores log p / n ** length_penalty; above 0
        prefers longer ones, 0 compares plain log-probabilities.
      early_stopping: True ends as soon as `beams` hypotheses are finished; False when the best running one, at its
        present length, is no better than the worst finished one; "never" when none could become better at any length.
    """

    beams: int = 4
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False

    def __post_init__(self):
        whole_number(self.beams, "BeamSearch.beams", 1)
        real(self.length_penalty, "BeamSearch.length_penalty", "a finite number", -math.inf)
        if self.early_stopping not in (True, False, "never"):
            raise UserError(f'BeamSearch.early_stopping is {self.early_stopping!r}; give True, False or "never"')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Beams:
    """The state of a search.

    Attributes:
      cache: of B * N rows, the last id of each not yet in it. positions: [B * N, 1] of that id.
      running: [B, N, T] ids of prompt and continuation, -1 elsewhere. scores: [B, N] their log-probability.
      finished: [B, N, T] likewise, best first. finished_scores: [B, N] after the length penalty.
      is_finished: [B, N] which of them are really there.
      improvable: [B] whether a running beam may still beat a finished one.
      step: ids drawn. open: whether any prompt goes on.
    """

    cache: Any
    positions: jax.Array
    running: jax.Array
    scores: jax.Array
    finished: jax.Array
    finished_scores: jax.Array
    is_finished: jax.Array
    improvable: jax.Array
    step: jax.Array
    open: jax.Array


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What is compiled into the programs."""

    beams: int
    candidates: int
    sampling: Sampling
    prompt_length: int
    forbids: bool


class _Limits(NamedTuple):
    """What programs take as arguments: end ids [E], shortest and longest continuation, and of BeamSearch the rest."""

    ends: Any
    shortest: Any
    longest: Any
    length_penalty: Any
    early: Any  # early_stopping is True
    patient: Any  # it is "never", and longer hypotheses are preferred


def search(
    graphdef: Any,
    state: Any,
    prompts: PromptBatch,
    *,
    beam_search: BeamSearch,
    max_new_tokens: int,
    min_new_tokens: int,
    end_ids: tuple[int, ...],
    sampling: Sampling,
) -> list[list[int]]:
    """The best hypothesis of each row of a batch, its end id included where it has one.

    Args:
      graphdef, state: of a prepared model. sampling: its penalties only.
    """
    length, room = prompts.tokens.shape[1], bucket(max_new_tokens, MIN_LENGTH)
    # Enough that `beams` go on even where all the best end.
    candidates = max(2, 1 + len(end_ids)) * beam_search.beams
    rule = _Rule(beam_search.beams, candidates, sampling, length, min_new_tokens > 0)
    ends = np.full(bucket(len(end_ids)), -1, np.int32)
    ends[: len(end_ids)] = end_ids
    limits = _Limits(
        ends=ends,
        shortest=np.int32(min_new_tokens),
        longest=np.int32(max_new_tokens),
        length_penalty=np.float32(beam_search.length_penalty),
        early=np.bool_(beam_search.early_stopping is True),
        patient=np.bool_(beam_search.early_stopping == "never" and beam_search.length_penalty > 0),
    )
    real = np.any(prompts.segment_ids != 0, axis=1)  # rows that only fill the bucket never hold the others up
    beams = _prefill(graphdef, state, prompts, real, limits, room=room, rule=rule)
    beams = _continue(graphdef, state, beams, limits, rule=rule)
    best = np.asarray(beams.finished[:, 0, length:])
    return [row[row >= 0].tolist() for row in best]


@functools.partial(jax.jit, static_argnames=("graphdef", "room", "rule"))
def _prefill(graphdef, state, prompts, real, limits, *, room: int, rule: _Rule) -> Beams:
    """Runs the prompts through the model once and takes the first step of every beam."""
    model, count = nnx.merge(graphdef, state), rule.beams
    cache, hidden_BD = prefill(model, prompts, room)
    batch = hidden_BD.shape[0]
    running = jnp.repeat(history(prompts, room)[:, None], count, axis=1)
    # Only the first beam counts at first, or all beams would take the same ids.
    scores = jnp.full((batch, count), NEVER).at[:, 0].set(0.0)
    beams = Beams(
        cache=kv.repeat_rows(cache, count),
        positions=jnp.repeat(prompts.positions[:, -1:], count, axis=0),
        running=running,
        scores=scores,
        finished=running,
        finished_scores=jnp.full((batch, count), NEVER),
        is_finished=jnp.broadcast_to(~real[:, None], (batch, count)),
        improvable=real,
        step=jnp.int32(0),
        open=jnp.any(real),
    )
    return _advance(model, beams, jnp.repeat(hidden_BD, count, axis=0), limits, rule)


@functools.partial(jax.jit, static_argnames=("graphdef", "rule"), donate_argnames=("beams",))
def _continue(graphdef, state, beams, limits, *, rule: _Rule) -> Beams:
    def step(b: Beams) -> Beams:
        model = nnx.merge(graphdef, state)
        last = jax.lax.dynamic_slice_in_dim(_rows(b.running), rule.prompt_length + b.step - 1, 1, axis=1)
        hidden, cache = model(last, positions=b.positions, cache=b.cache)
        moved = dataclasses.replace(b, cache=cache)
        return _advance(model, moved, hidden[:, 0], limits, rule)

    return jax.lax.while_loop(lambda b: b.open, step, beams)


def _advance(model: Any, b: Beams, hidden: jax.Array, limits: _Limits, rule: _Rule) -> Beams:
    """One id for every beam, from the states [B * N, embed] that predict it."""
    scores_BM, sequences_BMT, parents_BM, ids_BM = _candidates(model, b, hidden, limits, rule)
    ended_BM = jnp.any(ids_BM[:, :, None] == limits.ends, axis=-1) | (b.step + 1 >= limits.longest)
    alive_BM = scores_BM + jnp.where(ended_BM, NEVER, 0.0)
    chosen_BN = jax.lax.top_k(alive_BM, rule.beams)[1]
    running_scores = _take(alive_BM, chosen_BN)
    parents_BN = _take(parents_BM, chosen_BN)
    batch, count = chosen_BN.shape
    rows = (jnp.arange(batch)[:, None] * count + parents_BN).reshape(-1)
    finished, finished_scores, is_finished = _finish(b, scores_BM, sequences_BMT, ended_BM, limits, rule)
    improvable = b.improvable & _may_improve(running_scores, finished_scores, is_finished, b.step + 1, limits)
    going_on = jnp.any(improvable) & ~jnp.all(ended_BM) & ~(limits.early & jnp.all(is_finished))
    return Beams(
        cache=kv.take_rows(b.cache, rows),
        positions=next_positions(b.positions),  # the same for all beams of a prompt
        running=_take(sequences_BMT, chosen_BN),
        scores=running_scores,
        finished=finished,
        finished_scores=finished_scores,
        is_finished=is_finished,
        improvable=improvable,
        step=b.step + 1,
        open=going_on,
    )


def _candidates(model: Any, b: Beams, hidden: jax.Array, limits: _Limits, rule: _Rule):
    """The best continuations: scores [B, M], sequences [B, M, T], the beam each comes from and its new id [B, M]."""
    logits = model.head.logits(hidden)[:, : model.config.vocab_size]
    column = rule.prompt_length + b.step
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    log_probs = penalize(log_probs, _rows(b.running), column, rule.sampling)
    if rule.forbids:
        log_probs = jnp.where(b.step < limits.shortest, without(log_probs, limits.ends), log_probs)
    batch, count = b.scores.shape
    total = log_probs.reshape(batch, count, -1) + b.scores[:, :, None]
    scores_BM, flat_BM = jax.lax.top_k(total.reshape(batch, -1), rule.candidates)
    parents_BM, ids_BM = jnp.divmod(flat_BM.astype(jnp.int32), logits.shape[-1])
    sequences = jax.lax.dynamic_update_slice(_take(b.running, parents_BM), ids_BM[:, :, None], (0, 0, column))
    return scores_BM, sequences, parents_BM, ids_BM


def _finish(
    b: Beams, scores_BM: jax.Array, sequences_BMT: jax.Array, ended_BM: jax.Array, limits: _Limits, rule: _Rule
):
    """The finished hypotheses after this step: those of before and of now, best first."""
    just_now = ended_BM & (jnp.arange(rule.candidates) < rule.beams)
    scores = scores_BM / jnp.asarray(b.step + 1, jnp.float32) ** limits.length_penalty
    closed = ~b.improvable | (limits.early & jnp.all(b.is_finished, axis=1))
    scores = scores + jnp.where(closed, NEVER, 0.0)[:, None] + jnp.where(just_now, 0.0, NEVER)
    all_scores = jnp.concatenate([b.finished_scores, scores], axis=1)
    kept = jax.lax.top_k(all_scores, rule.beams)[1]
    return (
        _take(jnp.concatenate([b.finished, sequences_BMT], axis=1), kept),
        _take(all_scores, kept),
        _take(jnp.concatenate([b.is_finished, just_now], axis=1), kept),
    )


def _may_improve(running_scores, finished_scores, is_finished, length, limits: _Limits) -> jax.Array:
    """[B]: whether the best running beam could beat the worst finished one; an estimate, see `early_stopping`."""
    reach = jnp.where(limits.patient, limits.longest, length).astype(jnp.float32)
    best = running_scores[:, :1] / reach**limits.length_penalty
    worst = jnp.where(is_finished, jnp.min(finished_scores, axis=1, keepdims=True), NEVER)
    return jnp.any(best > worst, axis=1)


def _rows(array_BNT: jax.Array) -> jax.Array:
    return array_BNT.reshape(-1, array_BNT.shape[-1])


def _take(array: jax.Array, chosen: jax.Array) -> jax.Array:
    """array [B, N, ...] at the places [B, M] of its second axis."""
    return jnp.take_along_axis(array, chosen.reshape(*chosen.shape, *[1] * (array.ndim - 2)), axis=1)
