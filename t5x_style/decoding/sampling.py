"""Choosing the next token: greedy, or random after temperature, top-k, top-p and min-p; penalties on what was said.

Each row draws from its own seed, so a row's tokens do not depend on which other rows share the batch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from t5x_style.decoding.checks import real, whole_number


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; each step works on what the one before it left, in this order.

    Attributes:
      repetition_penalty: logits of ids that the row already holds, its prompt included, are divided by it where they
        are positive and multiplied where they are negative (Keskar et al. 2019, section 4.1); 1: no change.
      no_repeat_ngram: an id that would complete a run of so many ids for the second time is never taken; 0: any is.
      temperature: divides the logits; 0 takes the most likely token (the rest below then changes nothing).
      top_k: only the k most likely tokens; 0: all.
      top_p: the smallest set of most likely tokens whose probability reaches p (Holtzman et al. 2020); 1: all.
      min_p: only tokens at least min_p times as likely as the most likely one (Nguyen et al. 2024); 0: all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0

    def __post_init__(self):
        real(self.temperature, "Sampling.temperature", "0 (greedy) or a positive number", 0)
        whole_number(self.top_k, "Sampling.top_k, 0 for all tokens,", 0)
        real(self.top_p, "Sampling.top_p", "a number above 0 and at most 1", 0, 1, open_low=True)
        real(self.min_p, "Sampling.min_p", "a number from 0 to 1", 0, 1)
        real(self.repetition_penalty, "Sampling.repetition_penalty", "a positive number", 0, open_low=True)
        whole_number(self.no_repeat_ngram, "Sampling.no_repeat_ngram, 0 for none,", 0)


GREEDY = Sampling()


def penalize(logits: jax.Array, history: jax.Array, length: jax.Array | int, sampling: Sampling) -> jax.Array:
    """Logits [B, V] after the repetition penalty and without the ids that would repeat an n-gram.

    Args:
      history: [B, T] ids of prompt and continuation, -1 where there is none (padding, not drawn yet).
      length: the first column that is not drawn yet, scalar.

    Worked example, history [5, 6, 5], no_repeat_ngram 2: 6 gets -inf, because (5, 6) is there already.
    """
    if sampling.repetition_penalty != 1.0:
        rows = jnp.arange(logits.shape[0])[:, None]
        held = jnp.zeros(logits.shape, bool).at[rows, _dropped(history, logits)].set(True, mode="drop")
        changed = jnp.where(logits > 0, logits / sampling.repetition_penalty, logits * sampling.repetition_penalty)
        logits = jnp.where(held, changed, logits)
    if sampling.no_repeat_ngram:
        logits = _without_repeats(logits, history, length, sampling.no_repeat_ngram)
    return logits


def _without_repeats(logits: jax.Array, history: jax.Array, length: jax.Array | int, size: int) -> jax.Array:
    """-inf for every id that followed an earlier copy of the last size - 1 ids."""
    starts = history.shape[1] - size + 1
    if starts < 1:
        return logits
    wanted = jax.lax.dynamic_slice_in_dim(history, jnp.maximum(length - size + 1, 0), size - 1, axis=1)
    same = jnp.ones((history.shape[0], starts), bool)
    for offset in range(size - 1):
        same &= history[:, offset : offset + starts] == wanted[:, offset : offset + 1]
    # fewer than size - 1 ids: nothing can repeat (an id of padding is none, so a short row bans nothing either)
    same &= length >= size - 1
    banned = jnp.where(same, history[:, size - 1 :], -1)
    rows = jnp.arange(logits.shape[0])[:, None]
    return logits.at[rows, _dropped(banned, logits)].set(-jnp.inf, mode="drop")


def _dropped(ids: jax.Array, logits: jax.Array) -> jax.Array:
    """Negative ids moved beyond the vocabulary, where a scatter drops them (it would count them from the end)."""
    return jnp.where(ids < 0, logits.shape[1], ids)


def without(logits: jax.Array, ids: jax.Array) -> jax.Array:
    """Logits [B, V] with -inf at every id of `ids` [E]; a negative id is none."""
    return logits.at[:, _dropped(ids, logits)].set(-jnp.inf, mode="drop")


def restrict(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits [B, V] after temperature, -inf outside the top-k, top-p and min-p sets.

    Worked example, probabilities [0.5, 0.3, 0.2], top_p 0.6: the first token has 0.5 < 0.6, so the second is kept
    too, the third is not. min_p 0.5: 0.25 or more, so again the first two.
    """
    scaled = logits.astype(jnp.float32) / sampling.temperature
    if sampling.top_k and sampling.top_k < scaled.shape[-1]:
        kth = jax.lax.top_k(scaled, sampling.top_k)[0][:, -1:]
        scaled = jnp.where(scaled < kth, -jnp.inf, scaled)
    if sampling.top_p < 1:
        order = jnp.argsort(-scaled, axis=-1)
        sorted_p = jax.nn.softmax(jnp.take_along_axis(scaled, order, axis=-1), axis=-1)
        before = jnp.cumsum(sorted_p, axis=-1) - sorted_p  # probability of the more likely tokens
        rank = jnp.argsort(order, axis=-1)
        keep = jnp.take_along_axis(before < sampling.top_p, rank, axis=-1)
        scaled = jnp.where(keep, scaled, -jnp.inf)
    if sampling.min_p > 0:
        # the normalizer cancels: p >= min_p * p_max is a bound on the distance from the best logit
        floor = jnp.max(scaled, axis=-1, keepdims=True) + jnp.log(sampling.min_p)
        scaled = jnp.where(scaled < floor, -jnp.inf, scaled)
    return scaled


def sample(logits: jax.Array, seeds: jax.Array, step: jax.Array, sampling: Sampling) -> jax.Array:
    """Next tokens [B] int32, after temperature and the sets; see `penalize` for the rest.

    Args:
      logits: [B, V]. seeds: [B] uint32, one a row. step: how many tokens were drawn before, scalar.
    """
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scaled = restrict(logits, sampling)
    draw = lambda seed, row: jax.random.categorical(jax.random.fold_in(jax.random.key(seed), step), row)  # noqa: E731
    return jax.vmap(draw)(seeds, scaled).astype(jnp.int32)
