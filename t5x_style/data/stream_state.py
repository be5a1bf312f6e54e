"""Where a row stream stands, and what it has counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple


class Cursor(NamedTuple):
    """A piece's name: the number of its group within the stream, and its own number within the group."""

    group: int
    piece: int


@dataclasses.dataclass(frozen=True)
class StreamState:
    """Position of a stream.

    Attributes:
      window: windows before this one. row: rows of it already handed out.
      next: the first piece not yet read when the window began. carried: pieces read before it that found no room.
      switches: the first group of every stage after the first that has begun.
      tokens: raw tokens handed out, by the number of the source, since the run began; a later stage changes no number.
    """

    window: int = 0
    row: int = 0
    next: Cursor = Cursor(0, 0)
    carried: tuple[Cursor, ...] = ()
    switches: tuple[int, ...] = ()
    tokens: Mapping[int, int] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; what is empty is left out."""
        value: dict[str, Any] = {"window": self.window, "row": self.row, "next": list(self.next)}
        value |= {"carried": [list(cursor) for cursor in self.carried]} if self.carried else {}
        value |= {"switches": list(self.switches)} if self.switches else {}
        counts = [self.tokens.get(index, 0) for index in range(max(self.tokens, default=-1) + 1)]
        return value | ({"tokens": counts} if counts else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StreamState:
        """The inverse of `to_json`."""
        return cls(
            int(value["window"]),
            int(value["row"]),
            Cursor(*value["next"]),
            tuple(Cursor(*cursor) for cursor in value.get("carried", ())),
            tuple(value.get("switches", ())),
            {index: int(count) for index, count in enumerate(value.get("tokens", ())) if count},
        )


@dataclasses.dataclass
class ReadCounts:
    """What a stream has read since it was opened or restored, up to one window ahead of what it has handed out.

    examples, pieces: read and made. empty: skipped, since a required feature has no token. short: skipped, since too
    few of their group were left. split: groups that became several pieces. trimmed, tokens_trimmed: pieces for which
    tokens were left out, and those tokens. dropped, tokens_dropped: pieces that a new stage had no room for, and those.
    """

    examples: int = 0
    pieces: int = 0
    empty: int = 0
    short: int = 0
    split: int = 0
    trimmed: int = 0
    tokens_trimmed: int = 0
    dropped: int = 0
    tokens_dropped: int = 0
