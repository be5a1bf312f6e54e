"""Spans of noise as T5 draws them (Raffel et al. 2020, section 3.1.4), and the lengths they lead to.

Of a text of L tokens n are noise, in s spans, with text before each:

    n = round(r * L), within [1, L - 1]     s = max(1, round(n / mean_span))     rounding half to even, in float32

float32 is T5's: at r = .15 it differs from double precision for 39 lengths up to 4,096 (190 gives 29, not 28). What T5
computes in double precision, and so does `raw_length`, is how long a text must be to fill a row.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Runs(NamedTuple):
    """Lengths [s] of the runs of a text: text[0], noise[0], text[1], noise[1], ..."""

    text: np.ndarray
    noise: np.ndarray


def noise_counts(length: int | np.ndarray, density: float, mean_span: float) -> tuple[np.ndarray, np.ndarray]:
    """(noise tokens, spans) of texts of these lengths; what is shorter than 2 counts as 2.

    >>> [int(count) for count in noise_counts(568, 0.15, 3.0)]
    [85, 28]
    """
    long = np.maximum(length, 2)
    noise = np.clip(np.round(long.astype(np.float32) * np.float32(density)), 1, long - 1).astype(np.int64)
    spans = np.maximum(np.round(noise.astype(np.float32) / np.float32(mean_span)), 1).astype(np.int64)
    return noise, spans


@functools.lru_cache(maxsize=1024)
def raw_length(
    encoder: int,
    decoder: int | None,
    density: float,
    mean_span: float,
    *,
    most_spans: int | None = None,
    prefix: bool = False,
) -> int:
    """The longest text whose inputs and targets, each with an EOS, fit these rows; T5's random_spans_helper.

    >>> raw_length(512, None, 0.15, 3.0), raw_length(512, None, 0.5, 3.0), raw_length(512, 300, 0.5, 3.0)
    (568, 766, 448)

    Args:
      decoder: None: as long as the inputs need it, see `targets_length`.
      most_spans: and has no more spans than these.
      prefix: the noise is one span at the end, without a sentinel on either side.
    """
    raw = encoder - 1
    while _lengths(raw + 1, density, mean_span, prefix)[0] <= encoder:
        raw += 1
    inputs, targets = _lengths(raw, density, mean_span, prefix)
    if density == 0.5 and targets > inputs:
        raw -= 1  # T5 keeps both sides alike
    most = _lengths(raw, density, mean_span, prefix)[1] if decoder is None else decoder
    while raw > 1 and not _fits(raw, encoder, most, density, mean_span, most_spans, prefix):
        raw -= 1
    return raw


def targets_length(encoder: int, density: float, mean_span: float) -> int:
    """Tokens of the targets that belong to full inputs. Example: (512, .15, 3.) -> 114."""
    return _lengths(raw_length(encoder, None, density, mean_span), density, mean_span, False)[1]


def _lengths(raw: int, density: float, mean_span: float, prefix: bool) -> tuple[int, int]:
    """Inputs and targets, each with an EOS, in double precision; T5 forgets here that there is one span at least."""
    noise = max(round(raw * density), 1)
    spans = 0 if prefix else max(round(noise / mean_span), 1)
    return raw - noise + spans + 1, noise + spans + 1


def _fits(
    raw: int, encoder: int, decoder: int, density: float, mean_span: float, most: int | None, prefix: bool
) -> bool:
    """Whether a text really fits: by the counts that are drawn, which are rounded otherwise than the lengths."""
    noise, spans = (int(count) for count in noise_counts(raw, density, mean_span))
    signs = 0 if prefix else spans
    fits = raw - noise + signs + 1 <= encoder and noise + signs + 1 <= decoder
    return fits and (prefix or most is None or spans <= most)


def most_spans(raw: int, density: float, mean_span: float) -> int:
    """Spans of a text of this length."""
    return int(noise_counts(raw, density, mean_span)[1])


def drawable(raw: int, density: float, mean_span: float) -> bool:
    """Whether every text up to this length has a text token before each of its spans (not so: L 3, r .8, mean 1)."""
    lengths = np.arange(2, max(raw, 2) + 1)
    noise, spans = noise_counts(lengths, density, mean_span)
    return bool(np.all(spans <= np.minimum(noise, lengths - noise)))


def draw_runs(length: int, density: float, mean_span: float, rng: np.random.Generator) -> Runs:
    """The runs of a text: all ways to cut its noise, and its text, into s parts of at least 1 are equally likely.

    A text of one token has no noise: Runs([1], [0]).
    """
    if length < 2:
        return Runs(np.array([length]), np.array([0]))
    noise, spans = _counts_of(length, density, mean_span)
    return Runs(_composition(length - noise, spans, rng), _composition(noise, spans, rng))


@functools.lru_cache(maxsize=8192)
def _counts_of(length: int, density: float, mean_span: float) -> tuple[int, int]:
    noise, spans = noise_counts(length, density, mean_span)
    return int(noise), int(spans)


def _composition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn way to write `total` as `parts` numbers of at least 1, in order."""
    if parts == 1:
        return np.array([total])
    borders = rng.choice(total - 1, parts - 1, replace=False, shuffle=False)
    borders.sort()
    ends = np.empty(parts, np.int64)
    ends[:-1], ends[-1] = borders + 1, total
    ends[1:] -= ends[:-1].copy()
    return ends


def hide(tokens: np.ndarray, runs: Runs, sentinels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets): inputs have a sentinel for each run of noise, targets one for each run of text.

    >>> runs = Runs(np.array([2, 1]), np.array([1, 2]))
    >>> [side.tolist() for side in hide(np.array([5, 6, 7, 8, 9, 10]), runs, (99, 98))]
    [[5, 6, 99, 8, 98], [99, 7, 98, 9, 10]]

    Args:
      tokens: [L] int32. sentinels: at least as many as runs.
    """
    count = len(runs.text)
    signs = np.array(sentinels[:count], np.int32)
    pairs = np.empty(2 * count, np.int64)
    pairs[0::2], pairs[1::2] = runs.text, runs.noise
    noise = np.repeat(np.arange(2 * count) % 2 == 1, pairs)
    before = np.arange(count)
    text_ends, noise_ends = np.cumsum(runs.text), np.cumsum(runs.noise)
    inputs = _with_signs(tokens[~noise], text_ends + before, signs[: int(np.count_nonzero(runs.noise))])
    targets = _with_signs(tokens[noise], noise_ends - runs.noise + before, signs)
    return inputs, targets


def _with_signs(tokens: np.ndarray, places: np.ndarray, signs: np.ndarray) -> np.ndarray:
    out = np.empty(len(tokens) + len(signs), np.int32)
    rest = np.ones(len(out), bool)
    places = places[: len(signs)]
    rest[places] = False
    out[places], out[rest] = signs, tokens
    return out
