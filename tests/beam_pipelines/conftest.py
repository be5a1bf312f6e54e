"""Tasks that a test registers and that are taken out again."""

import contextlib

import pytest

from tests.beam_pipelines.caching import small_tasks
from tests.lazy import Lazy

seqio = Lazy("seqio")


@pytest.fixture
def add_task(tmp_path):
    """Registers Tasks over three text files of 5, 1 and 3 lines; takes them out again afterwards."""
    names = []

    def add(name, preprocessors, output_features=None, source=None, pattern=None):
        if source is None:
            files = pattern or small_tasks.write_lines(tmp_path / "lines")
            source = seqio.TextLineDataSource({"train": files, "validation": files.replace("*", "1")})
        seqio.TaskRegistry.add(
            name,
            source=source,
            preprocessors=preprocessors,
            output_features=output_features or small_tasks.targets(),
        )
        names.append(name)
        return seqio.TaskRegistry.get(name)

    yield add
    for name in names:
        seqio.TaskRegistry.remove(name)


@pytest.fixture
def add_mixture():
    """Registers Mixtures; takes them out again afterwards."""
    names = []

    def add(name, *arguments, **keywords):
        seqio.MixtureRegistry.add(name, *arguments, **keywords)
        names.append(name)
        return seqio.MixtureRegistry.get(name)

    yield add
    for name in names:
        with contextlib.suppress(ValueError):
            seqio.MixtureRegistry.remove(name)
