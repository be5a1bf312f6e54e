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

from t5x_style.decoding import beam
from t5x_style.decoding.beam import BeamSearch
from t5x_style.decoding.buckets import MIN_LENGTH, bucket, check_rows
from t5x_style.decoding.checks import whole_number
from t5x_style.decoding.permutation import continued
from t5x_style.decoding.prepare import prepare
from t5x_style.decoding.prompts import (
    Inputs,
    PromptBatch,
    decoder_batch,
    decoder_rows,
    encoder_decoder_batch,
    history,
    next_positions,
    prefill,
)
from t5x_style.decoding.sampling import GREEDY, Sampling, penalize, sample, without
from t5x_style.decoding.stopping import Decode, until_end, until_stop
from t5x_style.errors import UserError
from t5x_style.models.encoder_decoder import EncoderDecoder

STOP_CHUNK = 16  # steps between two looks for stop strings; a look costs a transfer and decoding the text


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for every batch of one call; see `generate`."""

    max_new_tokens: int
    min_new_tokens: int
    end_ids: tuple[int, ...]
    sampling: Sampling
    beam_search: BeamSearch | None
    stop: tuple[str, ...]
    decode: Decode | None


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("cache", "positions", "history", "done", "step"),
    meta_fields=("prompt_length",),
)
@dataclasses.dataclass(frozen=True)
class Progress:
    """A batch that is being generated.

    Attributes:
      cache: keys and values so far, the last token not yet among them. positions: [B, 1] of the last token.
      history: [B, prompt_length + room] prompts and what was drawn, -1 elsewhere.
      done: [B] rows that drew an end. step: tokens drawn.
    """

    cache: Any
    positions: jax.Array
    history: jax.Array
    done: jax.Array
    step: jax.Array
    prompt_length: int


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    eos_id: int | Sequence[int] | None = None,
    min_new_tokens: int = 0,
    sampling: Sampling = GREEDY,
    beam_search: BeamSearch | None = None,
    stop: Sequence[str] = (),
    decode: Decode | None = None,
    seed: int = 0,
    row_seeds: Sequence[int] | None = None,
    batch_size: int = 32,
    bidirectional_prompts: bool = False,
    inputs: Inputs | None = None,
    decoder_start_id: int | None = None,
    decoder_prompts: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Continues each prompt; an encoder-decoder answers it.

    Args:
      model: a Decoder, an EncoderDecoder, an XLNet or a recurrent model; `prepare` it first for several calls.
      prompts: ids, start id included, none empty; lengths may differ. For an EncoderDecoder the encoder's inputs.
      max_new_tokens: at most so many are drawn a row. min_new_tokens: no end id is drawn before so many.
      eos_id: one id or several that end a row; they are not part of the result.
      beam_search: keeps several hypotheses a row instead of sampling; see BeamSearch.
      stop: strings that end a row, found in the text that `decode` makes of the row's new ids. The result ends with the
        id that completes the first of them; `stopping.cut_at` cuts the text itself.
      seed: of all rows together. row_seeds: one seed a prompt instead, for equal draws in any batch.
      batch_size: rows that run together; prompts of similar length do.
      bidirectional_prompts: tokens of a prompt see each other both ways (prefix language models).
      inputs: gives positions and causal_attention of one prompt where the model needs its own.
      decoder_start_id: an EncoderDecoder's first decoder id. decoder_prompts: ids after it, one list a prompt.

    Returns:
      the new ids of each prompt, in the order of the prompts.

    Raises:
      UserError: an empty prompt, an id outside the vocabulary, options that do not fit the model or each other.
    """
    encodes = isinstance(model, EncoderDecoder)
    ends, strings = _end_ids(eos_id), _strings(stop)
    options = Options(max_new_tokens, min_new_tokens, ends, sampling, beam_search, strings, decode)
    _check(options, batch_size, model.config.vocab_size)
    check_rows(prompts, model.config.vocab_size, "prompt")
    if row_seeds is not None and len(row_seeds) != len(prompts):
        raise UserError(f"generate: {len(row_seeds)} row_seeds for {len(prompts)} prompts; give one a prompt")
    for number in [seed] if row_seeds is None else row_seeds:
        whole_number(number, "generate: a seed", 0, 2**32 - 1)
    seeds = _row_seeds(seed, len(prompts)) if row_seeds is None else np.asarray(row_seeds, np.uint32)
    if encodes and (bidirectional_prompts or inputs is not None):
        raise UserError("generate: bidirectional_prompts and inputs are for decoders, not for encoder-decoders")
    starts = decoder_rows(model, len(prompts), decoder_start_id, decoder_prompts)
    _check_length(model, starts or prompts, max_new_tokens)
    graphdef, state = nnx.split(prepare(continued(model)))
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    results: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        size, chosen = bucket(len(rows)), [prompts[row] for row in rows]
        if starts is not None:
            batch = encoder_decoder_batch(chosen, [starts[row] for row in rows], size)
        else:
            batch = decoder_batch(chosen, size, bidirectional=bidirectional_prompts, inputs=inputs)
        run = _generate_batch if beam_search is None else _search_batch
        for row, tokens in zip(rows, run(graphdef, state, batch, seeds[rows], options)):
            results[row] = tokens
    return results


def _end_ids(eos_id: int | Sequence[int] | None) -> tuple[int, ...]:
    if eos_id is None:
        return ()
    return (int(eos_id),) if isinstance(eos_id, (int, np.integer)) else tuple(int(token) for token in eos_id)


def _strings(stop: Sequence[str]) -> tuple[str, ...]:
    given = (stop,) if isinstance(stop, str) or not isinstance(stop, Sequence) else tuple(stop)
    if not all(isinstance(string, str) for string in given):
        raise UserError(f"generate: stop is {stop!r}; give a string or a list of strings")
    return given


def _check(options: Options, batch_size: int, vocab_size: int) -> None:
    whole_number(options.max_new_tokens, "generate: max_new_tokens", 1)
    whole_number(options.min_new_tokens, "generate: min_new_tokens", 0, options.max_new_tokens)
    whole_number(batch_size, "generate: batch_size", 1)
    for end in options.end_ids:
        whole_number(end, "generate: an end id", 0, vocab_size - 1)
    if options.stop and options.decode is None:
        raise UserError("generate: stop strings need decode, a function from ids to text")
    if "" in options.stop:
        raise UserError("generate: an empty stop string would end every row at once; leave it out")
    if options.beam_search is not None and (options.sampling.temperature > 0 or options.stop):
        raise UserError("generate: beam_search takes neither a temperature nor stop strings; leave one of them out")


def _check_length(model: Any, rows: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """A learned table of positions has an end; beyond it the model knows nothing."""
    spec = getattr(getattr(model.config, "embedding", None), "positions", None)
    longest = max(map(len, rows), default=0) + max_new_tokens
    # the last token drawn is never read
    if spec is not None and spec.kind == "learned" and longest - 1 + spec.offset > spec.length:
        raise UserError(
            f"generate: a prompt and max_new_tokens make {longest} tokens, the model has {spec.length - spec.offset} "
            "positions; shorten the prompt or draw fewer"
        )


def _row_seeds(seed: int, rows: int) -> np.ndarray:
    return np.random.SeedSequence(seed).generate_state(max(rows, 1))[:rows]


def _ends(options: Options) -> np.ndarray:
    """End ids padded to a bucket with -1, which is no id."""
    ends = np.full(bucket(len(options.end_ids)), -1, np.int32)
    ends[: len(options.end_ids)] = options.end_ids
    return ends


def _generate_batch(
    graphdef: Any, state: Any, prompts: PromptBatch, seeds: np.ndarray, options: Options
) -> list[list[int]]:
    size, count = prompts.tokens.shape[0], len(seeds)
    padded_seeds = np.zeros(size, np.uint32)
    padded_seeds[:count] = seeds
    done, room = np.arange(size) >= count, bucket(options.max_new_tokens, MIN_LENGTH)
    rule = (padded_seeds, _ends(options), np.int32(options.min_new_tokens))
    static = {"sampling": options.sampling, "forbids": options.min_new_tokens > 0}
    progress = _prefill(graphdef, state, prompts, done, *rule, room=room, **static)
    if not options.stop:
        progress = _continue(graphdef, state, progress, np.int32(options.max_new_tokens), *rule, **static)
        return [until_end(row, options.end_ids) for row in _drawn(progress, count)]
    assert options.decode is not None
    lengths: list[int | None] = [None] * count
    checked = 0
    while True:
        limit = np.int32(min(checked + STOP_CHUNK, options.max_new_tokens))
        progress = _continue(graphdef, state, progress, limit, *rule, **static)
        rows = [until_end(row, options.end_ids) for row in _drawn(progress, count)]
        for index, row in enumerate(rows):
            if lengths[index] is None:
                lengths[index] = until_stop(row, options.decode, options.stop, checked)
        done = np.asarray(progress.done) | np.array([n is not None for n in lengths] + [True] * (size - count))
        checked = int(progress.step)
        if done.all() or checked >= options.max_new_tokens:
            return [row[:length] for row, length in zip(rows, lengths)]
        progress = dataclasses.replace(progress, done=jnp.asarray(done))


def _drawn(progress: Progress, count: int) -> list[list[int]]:
    tokens, steps = np.asarray(progress.history), int(progress.step)
    return tokens[:count, progress.prompt_length : progress.prompt_length + steps].tolist()


def _search_batch(
    graphdef: Any, state: Any, prompts: PromptBatch, seeds: np.ndarray, options: Options
) -> list[list[int]]:
    assert options.beam_search is not None
    best = beam.search(
        graphdef,
        state,
        prompts,
        beam_search=options.beam_search,
        max_new_tokens=options.max_new_tokens,
        min_new_tokens=options.min_new_tokens,
        end_ids=options.end_ids,
        sampling=options.sampling,
    )
    return [until_end(row, options.end_ids) for row in best[: len(seeds)]]


_STATIC = ("graphdef", "sampling", "forbids")


@functools.partial(jax.jit, static_argnames=(*_STATIC, "room"))
def _prefill(graphdef, state, prompts, done, seeds, ends, minimum, *, room, sampling, forbids) -> Progress:
    """Runs the prompts through the model and draws each row's first token."""
    model = nnx.merge(graphdef, state)
    cache, hidden = prefill(model, prompts, room)
    progress = Progress(
        cache=cache,
        positions=prompts.positions[:, -1:],
        history=history(prompts, room),
        done=done,
        step=jnp.int32(0),
        prompt_length=prompts.tokens.shape[1],
    )
    return _draw(model, progress, cache, hidden, seeds, ends, minimum, sampling, forbids)


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames=("progress",))
def _continue(graphdef, state, progress, limit, seeds, ends, minimum, *, sampling, forbids) -> Progress:
    """Draws until every row is done or `limit` tokens are drawn; the loop stays on the device."""

    def step(p: Progress) -> Progress:
        model = nnx.merge(graphdef, state)
        last = jax.lax.dynamic_slice_in_dim(p.history, p.prompt_length + p.step - 1, 1, axis=1)
        hidden, cache = model(last, positions=p.positions, cache=p.cache)
        return _draw(model, p, cache, hidden[:, 0], seeds, ends, minimum, sampling, forbids)

    return jax.lax.while_loop(lambda p: (p.step < limit) & ~jnp.all(p.done), step, progress)


def _draw(model, p: Progress, cache, hidden_BD, seeds, ends, minimum, sampling: Sampling, forbids: bool) -> Progress:
    """One token a row from the states [B, embed] that predict it."""
    logits = model.head.logits(hidden_BD)[:, : model.config.vocab_size]
    logits = penalize(logits, p.history, p.prompt_length + p.step, sampling)
    if forbids:
        logits = jnp.where(p.step < minimum, without(logits, ends), logits)
    token = sample(logits, seeds, p.step, sampling)
    written = jax.lax.dynamic_update_slice(p.history, token[:, None], (0, p.prompt_length + p.step))
    done = p.done | jnp.any(token[:, None] == ends, axis=1)
    return Progress(cache, next_positions(p.positions), written, done, p.step + 1, p.prompt_length)
