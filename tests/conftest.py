"""Shared by all tests: a quiet environment, a compilation cache, the place of real data."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t5x_style import compilation_cache

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CI", "true")  # no progress bars
ROOT = Path(__file__).parent.parent
# Compiled programs are kept between tests, runs and clones; a changed program has another key.
for _name, _value in compilation_cache.environment().items():
    os.environ.setdefault(_name, _value)
# Tests that start processes must find the checkout from any working directory.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])

# A shell that starts the tests in the background makes them, and all that they start, deaf to Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402

from tests import selection  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    """--quarter=0..3: every fourth test function, what CI runs of the slow tests."""
    parser.addoption("--quarter", type=int, choices=range(4), help="run only this quarter of the test functions")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuses names that change from run to run, drops the other quarters, puts the longest first."""
    names = [item.nodeid for item in items]
    if unstable := selection.unstable(names):
        raise pytest.UsageError(f"the name of a test must not change from run to run; give ids= to {unstable[0]}")
    quarter = config.getoption("--quarter")
    if quarter is not None:
        left = [item for item in items if selection.quarter(item.nodeid) == quarter]
        config.hook.pytest_deselected(items=[item for item in items if selection.quarter(item.nodeid) != quarter])
        items[:] = left
    items.sort(key=lambda item: selection.order(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests of a group stay in one process. (Marks of xdist_group do nothing under pytest 9.2 and xdist 3.8.)"""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return selection.group(nodeid)

    config.option.loadscopereorder = False  # by number of tests: the end-to-end run, with few, would come last
    return ByGroup(config, log)


@pytest.fixture(scope="module")
def quick_to_compile() -> Iterator[None]:
    """XLA's compiler without its expensive passes, for tests that compile for longer than they compute.

    Two and a half times as fast; programs, shapes and dtypes are the same, and the tests of training, evaluation,
    loading and parity run what users run. Folders and modules ask for it with `autouse` or `pytestmark`.
    """
    jax = pytest.importorskip("jax")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("T5X_STYLE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set T5X_STYLE_TEST_DATA to run this test")
    return folder
