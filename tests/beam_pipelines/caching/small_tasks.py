"""What the tests of caching share: Tasks over small text files, and reading a cache back."""

import hashlib

import numpy as np
from array_record.python import array_record_module

from beam_pipelines.jobs.runners import Runner
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import read_manifest
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")
driver, options = Lazy("beam_pipelines.caching.cache"), Lazy("beam_pipelines.caching.options")
SHARDS = (["one", "two", "", "déjà vu", "five"], ["six"], ["seven", "eight", "nine"])


def targets():
    """One feature of bytes."""
    return {"targets": seqio.Feature(seqio.ByteVocabulary(), add_eos=True)}


def pair():
    """Two features of bytes."""
    return {"inputs": seqio.Feature(seqio.ByteVocabulary(), add_eos=False), **targets()}


def to_targets(dataset):
    return dataset.map(lambda line: {"targets": line})


def to_pair(dataset):
    return dataset.map(lambda line: {"inputs": tf.strings.join(["Q: ", line]), "targets": line, "extra": line})


def tokenize():
    """The first steps of most Tasks here."""
    return [to_targets, seqio.preprocessors.tokenize]


def placeholder_step():
    """Where seqio would cut the steps in two."""
    return seqio.CacheDatasetPlaceholder()


def write_lines(folder, shards=SHARDS):
    folder.mkdir(parents=True, exist_ok=True)
    for index, lines in enumerate(shards):
        (folder / f"part-{index}.txt").write_text("".join(f"{line}\n" for line in lines))
    return str(folder / "part-*.txt")


def rows_source(rows, split="train", **keywords):
    """A source of given rows, one shard."""

    def read(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_tensor_slices(rows)

    return seqio.FunctionDataSource(read, splits=[split], **keywords)


def plan(output, *names, **keywords):
    """The plan of a command; `stop` and `lengths` are its options for late steps."""
    chosen = options.Options(keywords.pop("stop", False), options.parse_lengths(keywords.pop("lengths", "")))
    return driver.make_plan(names, modules=("json",), output=str(output), options=chosen, **keywords)


def run(output, *names, **keywords):
    made = plan(output, *names, **keywords)
    with Runner() as runner:
        return driver.cache(made, runner)


def read_shard(path, features):
    reader = array_record_module.ArrayRecordReader(str(path))
    records = [decode_example(record) for record in reader.read_all()] if reader.num_records() else []
    reader.close()
    return [{name: restore(name, value, features[name]) for name, value in record.items()} for record in records]


def read_cache(output, task, split="train"):
    manifest = read_manifest(output, task, split)
    folder = output / task / split
    return [example for shard in manifest.shards for example in read_shard(folder / shard.file, manifest.features)]


def with_eos(examples, manifest):
    """What an objective makes of them: EOS behind the features that want it, cut to a length of the manifest first."""
    for name in manifest.append_eos:
        eos = manifest.vocabularies[manifest.features[name].vocabulary].eos_id
        cut = None if manifest.trim.get(name) is None else manifest.trim[name] - 1
        examples = [{**example, name: np.append(example[name][:cut], eos)} for example in examples]
    return examples


def assert_same(actual, expected, features):
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        assert set(one) == set(features)
        for name in features:
            np.testing.assert_array_equal(one[name], other[name])


def assert_as_seqio(output, task, split="train", lengths=None):
    """The cache of a Task gives `task.get_dataset`'s examples, one by one."""
    manifest = read_manifest(output, task.name, split)
    expected = list(task.get_dataset(lengths, split, shuffle=False).as_numpy_iterator())
    assert expected
    assert_same(with_eos(read_cache(output, task.name, split), manifest), expected, task.output_features)
    return expected


def hashes(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.array_record"))
    }
