"""What a command of cache_tasks asks for beyond the Tasks; pickled to the workers."""

from __future__ import annotations

import dataclasses

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
    """How late steps are treated.

    Attributes:
      stop_at_placeholder: what stands behind CacheDatasetPlaceholder is left out, but what the loader does itself.
      sequence_length: (feature, tokens) pairs: what steps that ask for the sequence length are given; empty: they are
        refused.
    """

    stop_at_placeholder: bool = False
    sequence_length: tuple[tuple[str, int], ...] = ()

    @property
    def lengths(self) -> dict[str, int] | None:
        """The sequence length as seqio takes it; None where none was given."""
        return dict(self.sequence_length) or None


DEFAULTS = Options()


def parse_lengths(text: str) -> tuple[tuple[str, int], ...]:
    """--sequence_length.

    >>> parse_lengths("targets=114,inputs=512")
    (('inputs', 512), ('targets', 114))

    Raises:
      UserError: it is not of that form.
    """
    lengths: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = part.partition("=")
        if not name or not number.isdecimal() or not int(number) or name in lengths:
            raise UserError(f"--sequence_length {text}: {part!r} is no feature=tokens; write inputs=512,targets=114")
        lengths[name] = int(number)
    return tuple(sorted(lengths.items()))
