"""A recipe: the stages of a cleaning run, in order, as one frozen dataclass that gin files fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.web.dedup import DedupStage
from beam_pipelines.web.document import DocumentStage, Stage, configuration
from beam_pipelines.web.extract import Extract
from beam_pipelines.web.read_warc import ReadWarc
from t5x_style.errors import UserError


@dataclass(frozen=True)
class CleanWeb:
    """Reading, extraction, then any document and deduplication stages in any order.

    Raises:
      UserError: the first two stages are not reading and extraction, a name occurs twice, or something is no stage.
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if len(self.stages) < 2 or not isinstance(self.stages[0], ReadWarc) or not isinstance(self.stages[1], Extract):
            raise UserError("CleanWeb.stages must begin with ReadWarc and Extract")
        for stage in self.stages[2:]:
            if not isinstance(stage, (DocumentStage, DedupStage)):
                name = type(stage).__name__
                raise UserError(f"CleanWeb.stages: {name} can stand only at the start or is no stage")
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"CleanWeb.stages: two stages are called {name!r}; set another name on one of them")

    @property
    def reader(self) -> ReadWarc:
        """The first stage."""
        assert isinstance(self.stages[0], ReadWarc)
        return self.stages[0]

    @property
    def extractor(self) -> Extract:
        """The second stage."""
        assert isinstance(self.stages[1], Extract)
        return self.stages[1]

    def segments(self) -> list[tuple[DedupStage | None, list[DocumentStage]]]:
        """(the deduplication before, the document stages behind it) for every map job.

        Example: read, extract, A, exact, B, minhash -> [(None, [A]), (exact, [B]), (minhash, [])].
        """
        result: list[tuple[DedupStage | None, list[DocumentStage]]] = [(None, [])]
        for stage in self.stages[2:]:
            if isinstance(stage, DedupStage):
                result.append((stage, []))
            else:
                assert isinstance(stage, DocumentStage)
                result[-1][1].append(stage)
        return result

    def configuration(self) -> list[Mapping[str, Any]]:
        """All parameters as JSON-like values; equal exactly when the recipes are."""
        return [configuration(stage) for stage in self.stages]
