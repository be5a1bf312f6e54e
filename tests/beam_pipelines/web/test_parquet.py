"""Documents in Parquet: what is written comes back, and only one row group of it is in memory at a time."""

import io
import random

import pytest

from beam_pipelines.files import storage
from beam_pipelines.web import parquet
from beam_pipelines.web.document import Document


def documents(texts):
    return [Document(f"{n:032x}", text, "web", "", "", "en", 0.5, "{}") for n, text in enumerate(texts)]


def write(path, items):
    with open(path, "wb") as file, parquet.Table(file, parquet.DOCUMENTS) as table:
        for item in items:
            table.add(parquet.document_row(item), len(item.text))


@pytest.mark.parametrize("texts", [[], [""], ["a", "汉字", ""] * 1000])
def test_documents_come_back_in_order(tmp_path, texts):
    write(tmp_path / "a.parquet", documents(texts))
    assert list(parquet.read_documents(str(tmp_path / "a.parquet"))) == documents(texts)


def test_one_row_group_at_a_time(tmp_path, monkeypatch):
    """Pages of 16 MB make row groups of two; batches that reach over many of them would be the whole file."""
    monkeypatch.setattr(parquet, "ROW_GROUP_CHARACTERS", 100_000)
    draw = random.Random(0)
    items = documents([draw.randbytes(50_000).hex() for _ in range(20)])
    path = tmp_path / "a.parquet"
    write(path, items)

    class Counted(io.FileIO):
        count = 0

        def read(self, size=-1):
            content = super().read(size)
            Counted.count += len(content)
            return content

    monkeypatch.setattr(storage, "open_read", lambda name: Counted(name))
    found = parquet.read_documents(str(path))
    assert next(found) == items[0]
    assert 0 < Counted.count < path.stat().st_size / 4
    assert [items[0], *found] == items
