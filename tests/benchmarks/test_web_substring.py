"""The benchmark runs and its methods agree, on made text and on documents."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import web_substring

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["suffix_array", "windows"])
def test_the_benchmark_prints_its_ratio(method, tmp_path, capsys):
    arguments = ["--sizes", "0.2", "0.4", "--compared", "0.2", "--method", method]
    if method == "windows":
        texts = [f"page {n} " + " ".join(f"w{n * word}" for word in range(120)) for n in range(50)]
        pq.write_table(pa.table({"text": ["", *texts]}), tmp_path / "documents.parquet")
        arguments += ["--documents", str(tmp_path / "*.parquet")]
    assert web_substring.main(arguments) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[-1].startswith("ratio: ")
    repeats = {line.split(":")[0]: int(line.split()[-2]) for line in lines if line.endswith("repeats")}
    assert set(repeats) == {"suffix_array", "windows", "dictionary"}
    assert len(set(repeats.values())) == 1
    assert repeats["dictionary"] > 0


def test_methods_that_differ_fail(monkeypatch, capsys):
    monkeypatch.setattr(web_substring, "windows_of", lambda found, units: web_substring.np.array([len(str(found))]))
    monkeypatch.setattr(web_substring, "measured", web_substring.search)
    assert web_substring.main(["--sizes", "0.05", "--compared", "0.05"]) == 1
    assert capsys.readouterr().out.strip().endswith("the methods differ")
