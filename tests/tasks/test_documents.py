import itertools
import json

import pytest

from tasks.splits import SPLITS, split_of
from tests.lazy import Lazy

seqio = Lazy("seqio")


def document(identifier, text, **meta):
    return {"id": identifier, "text": text, "metadata": json.dumps({"title": "t", "meta": meta})}


@pytest.fixture
def documents(data_dir):
    import pyarrow as pa
    import pyarrow.parquet as pq

    import tasks.documents  # noqa: F401 (registers the Task)

    rows = [
        document(f"{n:032x}", f"page {n}", object=f"m.Class{n // 3}.method{n}", module="m", kind="function")
        for n in range(300)
    ] + [document(f"{n:032x}", f"page {n}") for n in range(300, 400)]
    folder = data_dir / "web" / "documents"
    folder.mkdir(parents=True)
    for index in range(2):
        pq.write_table(pa.Table.from_pylist(rows[index::2]), folder / f"part-{index}.parquet")
    return rows


def test_every_document_is_in_exactly_one_split(documents):
    task = seqio.TaskRegistry.get("documents")
    found = {}
    for split in SPLITS:
        dataset = task.get_dataset(split=split, shuffle=False)
        texts = [
            task.output_features["targets"].vocabulary.decode(row["targets"].tolist())
            for row in dataset.as_numpy_iterator()
        ]
        found[split] = texts
        assert task.num_input_examples(split) == len(texts)
    assert sorted(itertools.chain(*found.values())) == sorted(row["text"] for row in documents)
    assert all(len(found[split]) > 3 for split in SPLITS)


def test_a_held_out_object_and_its_methods_are_never_trained_on(documents):
    task = seqio.TaskRegistry.get("documents")
    trained = {row["text"].decode() for row in task.source.get_dataset("train", shuffle=False).as_numpy_iterator()}
    held_out = [n for n in range(300) if split_of(f"m.Class{n // 3}") != "train"]
    assert held_out
    assert not trained & {f"page {n}" for n in held_out}


def test_targets_end_with_eos_and_shards_cover_the_split(documents):
    task = seqio.TaskRegistry.get("documents")
    whole = [row["targets"].tolist() for row in task.get_dataset(split="train", shuffle=False).as_numpy_iterator()]
    assert all(ids[-1] == 1 and 1 not in ids[:-1] for ids in whole)
    shards = [
        row["targets"].tolist()
        for index in range(2)
        for row in task.get_dataset(
            split="train", shuffle=False, shard_info=seqio.ShardInfo(index, 2)
        ).as_numpy_iterator()
    ]
    assert shards == whole
    assert set(task.get_dataset(split="train").element_spec) == {"targets"}
