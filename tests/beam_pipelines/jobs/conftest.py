"""Small WARC files, made as for the tests of beam_pipelines/web."""

from tests.beam_pipelines.web.conftest import warc  # noqa: F401
