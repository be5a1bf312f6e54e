"""From declared weights to how often a group of each source is read.

A weight in tokens counts tokens of the cache that are kept, for every objective. Worked example: weights of 2 and 1 in
tokens for sources whose examples have 100 and 300 tokens on average make 6 examples of the first on 1 of the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from t5x_style.data.data_config import DataConfig
from t5x_style.data.order import SourceOrder
from t5x_style.data.reader import Reader
from t5x_style.data.sources import Use, UsedPart
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
    objective, records = use.objective, use.cached.manifest.examples
    return records / SourceOrder(records, objective.group, objective.least, 0, False, 1).groups


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
    objective, records = use.objective, use.cached.manifest.examples
    order = SourceOrder(records, objective.group, objective.least, 0, False, 1)
    wanted = min(order.groups, -(-MEASURED_EXAMPLES // objective.group))
    chosen = np.unique(np.linspace(0, order.groups - 1, wanted).astype(int)).tolist()
    places = [order[number][0] for number in chosen]
    found = iter(reader.read([(use, record) for group in places for record in group]))
    total = read = 0
    for number, group in zip(chosen, places):
        examples = [example for example in [next(found) for _ in group] if example is not None]
        read += len(group)
        if len(examples) >= objective.least:
            rng = np.random.default_rng([seed, number])
            total += sum(piece.raw for piece in objective.segments(examples, part.lengths, use.ids, rng))
    if not total:
        raise UserError(
            f"source {use.cached.name!r}: {type(objective).__name__} makes nothing of {read} examples of it; leave it "
            "out (weight 0), or correct its Task or the objective"
        )
    return total / read


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
