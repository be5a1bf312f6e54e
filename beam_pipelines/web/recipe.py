"""A recipe: the stages of a cleaning run, in order, as one frozen dataclass that gin files fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.document import DocumentStage, PageStage, Stage, configuration
from beam_pipelines.web.extraction.extract import Extract
from t5x_style.errors import UserError


@dataclass(frozen=True)
class CleanWeb:
    """Reading, stages that look at pages, extraction, then any document and corpus stages in any order.

    Raises:
      UserError: reading does not come first or extraction not before the text stages, a name occurs twice, or
        something is no stage.
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        extracting = [index for index, stage in enumerate(self.stages) if isinstance(stage, Extract)]
        if not self.stages or not isinstance(self.stages[0], ReadWarc) or len(extracting) != 1:
            raise UserError("CleanWeb.stages must begin with ReadWarc and hold one Extract")
        for index, stage in enumerate(self.stages):
            allowed = ReadWarc if index == 0 else PageStage if index < extracting[0] else (DocumentStage, CorpusStage)
            if index != extracting[0] and not isinstance(stage, allowed):
                name = type(stage).__name__
                where = "before" if index < extracting[0] else "after"
                raise UserError(f"CleanWeb.stages: {name} cannot stand {where} Extract or is no stage")
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
    def page_stages(self) -> list[PageStage]:
        """The stages between reading and extraction."""
        return [stage for stage in self.stages[1 : self._extracting] if isinstance(stage, PageStage)]

    @property
    def extractor(self) -> Extract:
        """The stage that turns pages into text."""
        stage = self.stages[self._extracting]
        assert isinstance(stage, Extract)
        return stage

    @property
    def _extracting(self) -> int:
        return next(index for index, stage in enumerate(self.stages) if isinstance(stage, Extract))

    def segments(self) -> list[tuple[CorpusStage | None, list[DocumentStage]]]:
        """(the corpus stage before, the document stages behind it) for every map job.

        Example: read, extract, A, exact, B, minhash -> [(None, [A]), (exact, [B]), (minhash, [])].
        """
        result: list[tuple[CorpusStage | None, list[DocumentStage]]] = [(None, [])]
        for stage in self.stages[self._extracting + 1 :]:
            if isinstance(stage, CorpusStage):
                result.append((stage, []))
            else:
                assert isinstance(stage, DocumentStage)
                result[-1][1].append(stage)
        return result

    def configuration(self) -> list[Mapping[str, Any]]:
        """All parameters as JSON-like values; equal exactly when the recipes are."""
        return [configuration(stage) for stage in self.stages]
