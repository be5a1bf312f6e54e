"""Who sees whom: causal order, windows, packed segments and bidirectional prefixes in one boolean mask.

Worked example: two documents of two tokens packed in a row of five, the last slot padding.

    segment_ids [1, 1, 2, 2, 0], causal        with causal_attention [1, 1, 0, 0, 0]
    query 0  1 0 0 0 0                         1 1 0 0 0      the prefix sees itself both ways
          1  1 1 0 0 0                         1 1 0 0 0
          2  0 0 1 0 0                         0 0 1 0 0
          3  0 0 1 1 0                         0 0 1 1 0
          4  0 0 0 0 1                         0 0 0 0 1      padding sees only padding
"""

from __future__ import annotations

import dataclasses

import jax


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sight:
    """What a mask is made from; S is L, or the slots of a cache.

    Attributes:
      query_index: [L] slot of each query. key_index: [S] slot of each key.
      query_segments [B, L], key_segments [B, S]: packed documents, None: one document.
      query_prefix [B, L], key_prefix [B, S]: nonzero on bidirectional positions, None: none.
    """

    query_index: jax.Array
    key_index: jax.Array
    query_segments: jax.Array | None = None
    key_segments: jax.Array | None = None
    query_prefix: jax.Array | None = None
    key_prefix: jax.Array | None = None

    def of_rows(self, rows: slice) -> Sight:
        """That of some rows of the batch."""
        per_row = ("query_segments", "key_segments", "query_prefix", "key_prefix")
        held = {name: getattr(self, name) for name in per_row}
        return dataclasses.replace(self, **{n: None if array is None else array[rows] for n, array in held.items()})


def visible(sight: Sight, *, causal: bool, window: int | None) -> jax.Array | None:
    """The mask [B or 1, L, S], True where a query may look; None where everything is visible.

    Prefix positions of one segment see each other whatever their order (within the window's reach backwards).

    Args:
      causal: keys at or before the query's slot. window: and fewer than `window` slots away.
    """
    mask = None
    if causal:
        distance = sight.query_index[:, None] - sight.key_index[None, :]  # [L, S]
        mask = (distance >= 0)[None]
        if window is not None:
            mask = mask & (distance < window)[None]
        if sight.query_prefix is not None and sight.key_prefix is not None:
            both = (sight.query_prefix != 0)[:, :, None] & (sight.key_prefix != 0)[:, None, :]
            mask = mask | (both if window is None else both & (distance < window)[None])
    if sight.query_segments is not None and sight.key_segments is not None:
        same = sight.query_segments[:, :, None] == sight.key_segments[:, None, :]
        mask = same if mask is None else mask & same
    return mask
