"""Batches made by hand for the loop: what stands in for an objective that does not exist yet."""

import dataclasses

import numpy as np

from t5x_style.data.batches import BatchSpec, Field
from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives.objective import Objective

LENGTH = 16
ROLES = {"segment_ids": "segment_ids", "positions": "positions"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class HandMade(Objective):
    """Declares fields; makes nothing."""

    names: tuple[str, ...] = ()

    features = required = ()

    @property
    def spec(self):
        def field(name):
            side, _, rest = name.partition("_")
            return Field(name, side, ROLES.get(rest, "given"), np.float32 if rest.endswith("weights") else np.int32)

        return BatchSpec(tuple(map(field, self.names)))

    def lengths(self, length):
        return dict.fromkeys(self.spec.sides, length)

    def segments(self, examples, lengths, ids, rng):
        raise AssertionError("hand-made batches need no objective")


class Source:
    """The loop's source of batches: the same ones over and over; its state is the number handed out."""

    def __init__(self, batches):
        self.batches, self.given = batches, 0

    def __iter__(self):
        return iter(self.batches)

    def __next__(self):
        self.given += 1
        return self.batches[(self.given - 1) % len(self.batches)]

    def get_state(self):
        return {"given": self.given}

    def merge_states(self, states):
        return states[0]

    def set_state(self, state):
        self.given = state["given"]

    def close(self):
        pass


def data(batch, **settings):
    """A DataConfig of the fields of `batch` [accumulation, rows, length]."""
    first = next(iter(batch.values()))
    shape = {"batch_size": first.shape[0] * first.shape[1], "accumulation": first.shape[0], "streams": 1}
    objective = HandMade(names=tuple(batch))
    return DataConfig("none", "hand-made", objective, length=first.shape[2], **{**shape, **settings})


def packed(vocab, side="decoder", rows=4, accumulation=2, seed=0, targets=None):
    """Two documents of 6 and 8 tokens in rows of 16; a decoder is to copy, an encoder to restore a token in three."""
    random = np.random.default_rng(seed)
    shape = (accumulation, rows, LENGTH)
    tokens = random.integers(4, vocab, shape).astype(np.int32) if targets is None else targets
    segments = np.broadcast_to([1] * 6 + [2] * 8 + [0] * 2, shape).astype(np.int32)
    positions = np.broadcast_to([*range(6), *range(8), 0, 0], shape).astype(np.int32)
    hidden = positions % 3 == 2
    return {
        f"{side}_input_tokens": np.where(hidden, 3, tokens) if side == "encoder" else np.roll(tokens, 1, axis=-1),
        f"{side}_target_tokens": tokens,
        f"{side}_loss_weights": ((segments > 0) & (hidden | (side == "decoder"))).astype(np.float32),
        f"{side}_segment_ids": segments,
        f"{side}_positions": positions,
    }
