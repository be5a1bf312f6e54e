"""From declared weights to how often a group of each source is read.

A weight in tokens counts tokens of the cache that are kept, for every objective. Worked example: weights of 2 and 1 in
tokens for sources whose examples have 100 and 300 tokens on average make 6 examples of the first on 1 of the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives.objective import Piece
from t5x_style.data.order import SourceOrder
from t5x_style.data.packing import Given, place
from t5x_style.data.reader import Reader
from t5x_style.data.sources import SourceSet, Use, UsedPart
from t5x_style.errors import UserError

# Examples read, in groups evenly spaced, to learn how many tokens of a source are kept where the manifest cannot tell:
# a standard error of 6% for lengths that spread as much as their mean (1 / sqrt(256)).
MEASURED_EXAMPLES = 256


def group_rates(config: DataConfig, part: UsedPart, reader: Reader) -> list[float]:
    """Relative rates at which groups of the sources of a stage are read.

    Raises:
      UserError: nothing of a source is kept.
    """
    if not config.repeat or len(part.uses) == 1:
        return [1.0] * len(part.uses)
    units = {part.unit, *(use.share.unit for use in part.uses if use.share.unit)}
    if units == {"examples"}:
        tokens = [1.0] * len(part.uses)
    else:
        tokens = [kept_tokens(use, part, reader, config.seed) for use in part.uses]
    for use, mean in zip(part.uses, tokens):
        if not mean:
            raise UserError(
                f"source {use.cached.name!r}: {type(use.objective).__name__} keeps no token of it to be counted; set "
                "DataConfig.unit to 'examples'"
            )
    shares = _shares(part.uses, tokens, part.unit)
    groups = [_examples_of_a_group(use) for use in part.uses]
    if part.unit == "examples":
        return [share / examples for share, examples in zip(shares, groups)]
    return [share / (mean * examples) for share, mean, examples in zip(shares, tokens, groups)]


def _examples_of_a_group(use: Use) -> float:
    return use.cached.manifest.examples / _order(use).groups


def _shares(uses: Sequence[Use], tokens: Sequence[float], unit: str) -> list[float]:
    """Weights in `unit`, those within a cached Mixture turned from its own unit and made to add up to its weight."""
    inner = [
        use.share.rate * (1.0 if use.share.unit in (None, unit) else mean if unit == "tokens" else 1.0 / mean)
        for use, mean in zip(uses, tokens)
    ]
    totals: dict[str | None, float] = {}
    for use, rate in zip(uses, inner):
        totals[use.share.of] = totals.get(use.share.of, 0.0) + rate
    return [
        use.share.weight if use.share.of is None else use.share.weight * rate / totals[use.share.of]
        for use, rate in zip(uses, inner)
    ]


def kept_tokens(use: Use, part: UsedPart, reader: Reader, seed: int) -> float:
    """Mean tokens of the cache that are kept of an example.

    Raises:
      UserError: nothing is.
    """
    manifest, objective = use.cached.manifest, use.objective
    features = [name for name in objective.features if manifest.features[name].kind == "ids"]
    trimmed = any(manifest.trim.get(name) is not None for name in features)
    longest = {name: manifest.lengths[name].upper_bound if name in manifest.lengths else None for name in features}
    empty = any(manifest.lengths[name].empty for name in objective.required if name in manifest.lengths)
    if not trimmed and not empty and not objective.may_cut(longest, part.lengths):
        return sum(manifest.tokens.get(name, 0) for name in features) / manifest.examples
    return _measured(use, part, reader, seed)


def _measured(use: Use, part: UsedPart, reader: Reader, seed: int) -> float:
    total = read = 0
    for examples, pieces in _sample(use, part, reader, seed):
        read += examples
        total += sum(piece.raw for piece in pieces)
    if not total:
        raise UserError(
            f"source {use.cached.name!r}: {type(use.objective).__name__} makes nothing of {read} examples of it; leave "
            "it out (weight 0), or correct its Task or the objective"
        )
    return total / read


def _order(use: Use) -> SourceOrder:
    objective = use.objective
    return SourceOrder(use.cached.manifest.examples, objective.group, objective.least, 0, False, 1)


def _sample(use: Use, part: UsedPart, reader: Reader, seed: int) -> Iterator[tuple[int, list[Piece]]]:
    """(examples, pieces) of groups that are evenly spaced over a source."""
    objective, order = use.objective, _order(use)
    wanted = min(order.groups, -(-MEASURED_EXAMPLES // objective.group))
    chosen = np.unique(np.linspace(0, order.groups - 1, wanted).astype(int)).tolist()
    places = [order[number][0] for number in chosen]
    found = iter(reader.read([(use, record) for group in places for record in group]))
    for number, group in zip(chosen, places):
        examples = [example for example in [next(found) for _ in group] if example is not None]
        pieces: list[Piece] = []
        if len(examples) >= objective.least:
            rng = np.random.default_rng([seed, number])
            pieces = list(objective.segments(examples, part.lengths, use.ids, rng))
        yield len(group), pieces


def expected_epochs(
    config: DataConfig, found: SourceSet, rates: Sequence[Sequence[float]], reader: Reader, steps: int
) -> dict[str, float]:
    """How often each source is read in so many steps if rows are full, over all stages.

    Worked example, rows of 100 tokens, 8 a step, 10 steps: 8,000 tokens. A source alone whose 40 examples make 50
    tokens on average gives 160 of them: 4 epochs.
    """
    epochs = {cached.name: 0.0 for cached in found.sources}
    given = Given.of(config.spec)
    ends = [part.step for part in found.parts[1:]] + [steps]
    for part, of_part, end in zip(found.parts, rates, ends):
        capacity = np.array(list(part.lengths.values()), float) * part.batch_size * max(0, min(end, steps) - part.step)
        shares = np.array(of_part) / sum(of_part)
        sizes = []  # tokens that a group of each source has on every side
        for use in part.uses:
            groups = [pieces for _, pieces in _sample(use, part, reader, config.seed)]
            placed = [place(piece.fields, given, 0, 0).sizes for pieces in groups for piece in pieces if piece.fields]
            sizes.append(np.sum(placed, axis=0) / len(groups) if placed else np.zeros(len(capacity)))
        each = shares @ np.array(sizes)
        drawn = min((room / size for room, size in zip(capacity, each) if size), default=0.0)
        for use, share in zip(part.uses, shares):
            epochs[use.cached.name] += drawn * share / _order(use).groups
    return epochs


def task_rates(sizes: Mapping[str, int] | Sequence[int], temperature: float = 1.0) -> list[float]:
    """How often each task is drawn: its size to the power 1 / temperature, as a share.

    Example: sizes [900, 100] -> [.9, .1] at temperature 1 (MT-DNN), [.75, .25] at 2, nearly even at 100.

    Args:
      sizes: examples of each task.

    Raises:
      UserError: a size or a temperature that is not positive.
    """
    counts = list(sizes.values() if isinstance(sizes, Mapping) else sizes)
    if temperature <= 0 or not counts or min(counts) <= 0:
        raise UserError(f"task_rates of sizes {counts} at temperature {temperature}: all must be above 0")
    largest = max(counts)
    powers = [(count / largest) ** (1 / temperature) for count in counts]
    return [power / sum(powers) for power in powers]
