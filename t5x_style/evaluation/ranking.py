"""Log-probabilities of several answers to one prompt: the prompt is computed once, its keys and values are shared.

Rank classification asks for every option of a prompt. Scored row by row, a prompt of 300 tokens with 8 options of 3
costs 8 x 303 tokens; shared, 300 + 8 x 3. Array suffixes: B prompts, L prompt tokens, O options, K answer tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style import decoding
from t5x_style.decoding import cache as kv
from t5x_style.decoding.buckets import bucket, check_rows, left_padded
from t5x_style.losses.chunked import token_log_probs

Tokens = Sequence[Sequence[int]]
PROMPT_STEP = 128  # prompts are padded to multiples of it: few programs, little padding


def score(model: Any, inputs: Tokens, targets: Tokens, batch_size: int) -> list[float]:
    """Summed log-probability of every target given its inputs, as `decoding.score`; equal inputs are computed once.

    Args:
      model: a Decoder or a recurrent model, prepared for decoding.
      inputs: ids, start id included. targets: ids of the answers; may be empty (0).
      batch_size: rows, and prompts, that run together.

    Raises:
      UserError: as decoding.score.
    """
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(inputs):
        rows_of.setdefault(tuple(prompt), []).append(row)
    if len(rows_of) == len(inputs) or not any(map(len, targets)):
        return decoding.score(model, inputs, targets, batch_size=batch_size).log_probs.tolist()
    check_rows(list(rows_of), model.config.vocab_size, "input")
    check_rows([row for row in targets if len(row)], model.config.vocab_size, "target")
    graphdef, state = nnx.split(model)
    result = [0.0] * len(inputs)
    prompts = sorted(rows_of, key=len, reverse=True)  # longest first: what does not fit in memory fails at once
    batch = min(batch_size, bucket(len(prompts)))
    for start in range(0, len(prompts), batch):
        chosen = prompts[start : start + batch]
        rows = [rows_of[prompt] for prompt in chosen]
        tokens, segments, positions = left_padded(chosen, batch, _padded_length(len(chosen[0])))
        answers, weights = _answers([[targets[row] for row in group] for group in rows], batch)
        scores_OB = np.asarray(_score(graphdef, state, tokens, segments, positions, answers, weights), np.float64)
        for index, group in enumerate(rows):
            for option, row in enumerate(group):
                result[row] = float(scores_OB[option, index])
    return result


def _padded_length(length: int) -> int:
    return -(-length // PROMPT_STEP) * PROMPT_STEP


def _answers(answers: list[list[Sequence[int]]], batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and weights [O, B, K], padded on the right with weight 0.

    Example, two prompts with answers [[7, 8], [9]] and [[6]], padded to K = 8: tokens[0, 0] is [7, 8, 0, ...],
    tokens[1, 0] is [9, 0, ...], tokens[0, 1] is [6, 0, ...], and tokens[1, 1] is padding.
    """
    options = max(len(group) for group in answers)
    longest = max((len(answer) for group in answers for answer in group), default=1)
    tokens = np.zeros((options, batch, bucket(longest, 8)), np.int32)
    weights = np.zeros(tokens.shape, np.float32)
    for index, group in enumerate(answers):
        for option, answer in enumerate(group):
            tokens[option, index, : len(answer)] = answer
            weights[option, index, : len(answer)] = 1
    return tokens, weights


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _score(graphdef, state, tokens, segments, positions, answers_OBK, weights_OBK) -> jax.Array:  # -> [O, B]
    model: Any = nnx.merge(graphdef, state)
    batch, length = tokens.shape
    room = answers_OBK.shape[-1]
    cache = kv.begin(model, batch, length + room)
    hidden_BLD, cache = model(tokens, segment_ids=segments, positions=positions, cache=cache)
    after_BK = positions[:, -1:] + 1 + jnp.arange(room, dtype=jnp.int32)

    def option(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        answer_BK, weights_BK = pair
        hidden_BKD, _ = model(answer_BK, positions=after_BK, cache=cache)  # every option goes on from the same cache
        # The prompt's last state predicts the answer's first token, the first token's state the second, ...
        before_BKD = jnp.concatenate([hidden_BLD[:, -1:], hidden_BKD[:, :-1]], axis=1)
        log_probs_BK = token_log_probs(model.head, before_BKD, answer_BK).log_probs
        return jnp.sum(log_probs_BK * weights_BK, axis=-1)

    return jax.lax.map(option, (answers_OBK, weights_OBK))
