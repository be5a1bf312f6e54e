import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t5x_style.errors import UserError
from tasks.splits import SPLITS
from tests.lazy import Lazy

seqio, tf, parquet = Lazy("seqio"), Lazy("tensorflow"), Lazy("tasks.parquet")


def write(path, rows, schema=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, **options)


def texts(dataset):
    return [row["text"].decode() for row in dataset.as_numpy_iterator()]


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """Three files of 5, 0 and 2 rows for `train`, one for `test`."""
    monkeypatch.setenv("T5X_STYLE_DATA_DIR", str(tmp_path))
    schema = pa.schema([("text", pa.string()), ("unused", pa.int64())])
    for index, rows in enumerate(([0, 1, 2, 3, 4], [], [5, 6])):
        write(tmp_path / "d" / f"train-{index}.parquet", [{"text": str(n), "unused": n} for n in rows], schema)
    write(tmp_path / "d" / "test-0.parquet", [{"text": "t", "unused": 0}], schema)
    return tmp_path


def source(**changes):
    arguments = {"pattern": "d/{split}-*.parquet", "columns": {"text": parquet.string()}, "splits": ("train", "test")}
    return parquet.ParquetDataSource(**{**arguments, **changes})


def test_rows_come_in_file_and_row_order(numbers):
    assert texts(source().get_dataset("train", shuffle=False)) == list("0123456")
    assert texts(source().get_dataset("test", shuffle=False)) == ["t"]
    assert set(source().get_dataset("test").element_spec) == {"text"}


def test_counts_come_from_the_footers(numbers):
    assert source().num_input_examples("train") == 7
    assert source().num_input_examples("test") == 1


def test_a_file_is_a_shard(numbers):
    assert [path.rsplit("/", 1)[1] for path in source().list_shards("train")] == [
        f"train-{index}.parquet" for index in range(3)
    ]
    shards = [
        texts(source().get_dataset("train", shuffle=False, shard_info=seqio.ShardInfo(index, 2))) for index in range(2)
    ]
    assert shards == [list("01234") + list("56"), []]  # files 0 and 2; file 1, which is empty
    with pytest.raises(ValueError, match="3 files cannot give 4 shards"):
        source().get_dataset("train", shard_info=seqio.ShardInfo(0, 4))


def test_shuffling_draws_the_order_of_files_from_the_seed(numbers):
    orders = {tuple(texts(source().get_dataset("train", shuffle=True, seed=seed))) for seed in range(12)}
    assert orders == {tuple("0123456"), tuple("5601234")}
    again = [texts(source().get_dataset("train", shuffle=True, seed=3)) for _ in range(2)]
    assert again[0] == again[1]


def test_epochs(numbers):
    assert texts(source().get_dataset("test", num_epochs=3)) == ["t"] * 3
    assert texts(source().get_dataset("train", shuffle=False, num_epochs=None).take(9)) == list("012345601")


def test_rows_are_assigned_to_splits_by_a_function(tmp_path):
    """Row groups smaller than the file, so that batches end inside it."""
    rows = [{"text": str(number), "key": number} for number in range(3000)]
    write(tmp_path / "a.parquet", rows, row_group_size=700)
    filtered = source(
        pattern=str(tmp_path / "*.parquet"),
        splits=SPLITS,
        split_of=lambda row: SPLITS[row["key"] % 3],
        split_columns=("key",),
    )
    for index, split in enumerate(SPLITS):
        expected = [str(number) for number in range(3000) if number % 3 == index]
        assert texts(filtered.get_dataset(split, shuffle=False)) == expected
        assert filtered.num_input_examples(split) == len(expected) == 1000
    write(tmp_path / "a.parquet", rows[:2])
    assert [filtered.num_input_examples(split) for split in SPLITS] == [1, 1, 0]


def test_lists_empty_strings_and_unicode(tmp_path):
    rows = [{"text": "", "options": ["a", "é\nb"]}, {"text": "\U0001f600", "options": []}]
    schema = pa.schema([("text", pa.string()), ("options", pa.list_(pa.string()))])
    write(tmp_path / "a.parquet", rows, schema)
    read = source(
        pattern=str(tmp_path / "*.parquet"),
        columns={"text": parquet.string(), "options": parquet.strings()},
        split_of=lambda _: "train",
    ).get_dataset("train")
    found = [(row["text"].decode(), [option.decode() for option in row["options"]]) for row in read.as_numpy_iterator()]
    assert found == [("", ["a", "é\nb"]), ("\U0001f600", [])]


def test_numeric_columns(tmp_path):
    write(tmp_path / "a.parquet", [{"score": 0.5, "ids": [1, 2]}])
    spec = {"score": tf.TensorSpec((), tf.float32), "ids": tf.TensorSpec((None,), tf.int32)}
    read = source(pattern=str(tmp_path / "*.parquet"), columns=spec, split_of=lambda _: "train").get_dataset("train")
    row = next(read.as_numpy_iterator())
    assert row["score"] == np.float32(0.5)
    assert row["ids"].tolist() == [1, 2]
    assert row["ids"].dtype == np.int32


def test_construction_reads_nothing(monkeypatch):
    monkeypatch.delenv("T5X_STYLE_DATA_DIR", raising=False)
    built = source(remedy="run the crawl")
    with pytest.raises(UserError, match="T5X_STYLE_DATA_DIR is not set"):
        built.list_shards("train")
    monkeypatch.setenv("T5X_STYLE_DATA_DIR", "/nonexistent")
    with pytest.raises(UserError, match=r"/nonexistent/d/train-\*.parquet: no file matches; run the crawl"):
        built.get_dataset("train")


def test_bad_files_are_user_errors(tmp_path):
    write(tmp_path / "a.parquet", [{"other": 1}])
    one = source(pattern=str(tmp_path / "a.parquet"), split_of=lambda _: "train")
    with pytest.raises(UserError, match=r"a\.parquet: no column text \(it has other\)"):
        one.get_dataset("train")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        one.get_dataset("train")


def test_null_values_are_refused(tmp_path):
    write(tmp_path / "a.parquet", [{"text": "x"}, {"text": None}])
    nulls = source(pattern=str(tmp_path / "a.parquet"), split_of=lambda _: "train").get_dataset("train")
    with pytest.raises(tf.errors.UnknownError, match="column text has an empty"):
        texts(nulls)


def test_split_needs_exactly_one_rule():
    with pytest.raises(ValueError, match="either"):
        source(pattern="d/*.parquet")
    with pytest.raises(ValueError, match="either"):
        source(split_of=lambda _: "train")
