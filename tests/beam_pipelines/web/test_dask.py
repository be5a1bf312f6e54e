"""A real LocalCluster of two worker processes gives what the local runners give, row for row and byte for byte."""

import pyarrow.parquet as pq
import pytest

CLUSTER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"  # by this name it is any other runner to us


def row_counts(folder) -> dict[str, int]:
    """Rows of every Parquet file that a run wrote, intermediate ones too."""
    return {str(path.relative_to(folder)): pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "runner", [["--runner", "dask", "--workers", "2"], ["--workers", "2"], ["--runner", CLUSTER]], ids=" ".join
)
def test_every_runner_gives_the_same(crawl, cleaned, tmp_path, runs, runner):
    output = tmp_path / "out"
    runs.clean(crawl, output, *runner)
    counts = row_counts(output)
    assert counts == row_counts(cleaned)
    assert sum(counts.values()) > 150
    assert runs.contents(output) == runs.contents(cleaned)
