"""Token shards to packed batches on one core: our loader against a grain pipeline.

    python -m benchmarks.data_packing [--documents 20000] [--sources 1] [--runs 5] [--stored list]

Both read the same ArrayRecord shards at random, parse tf.train.Example, pack rows of 1,024 and make batches of 8 rows
with inputs, targets, segment ids and positions (ours also weights and source ids). The peer is grain as its guide
shows it: MapDataset shuffle, repeat and mix, FirstFitPackIterDataset over 32 bins, batch. The loader's state is
not saved on either side. Documents are log-normal (about 250 tokens on average, none over a row). Ids are stored as
cache_tasks stores them (uint16 bytes), or as lists of int64, as it did before and as tf.train.Example is mostly used.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grain
import numpy as np

from benchmarks.harness import compare, ratio_line
from t5x_style.data import DataConfig, open_loader
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import Feature, Mixture, VocabularyInfo, write_mixture
from t5x_style.data.objectives import CausalLM
from t5x_style.data.shards import write_cache

LENGTH, ROWS, BINS, BATCHES, WARM = 1024, 8, 32, 200, 40


def write_documents(folder: str, documents: int, sources: int, stored: str) -> list[str]:
    """Writes a mixture `mix` of equal sources; returns the shard files."""
    rng = np.random.default_rng(0)
    vocabulary = VocabularyInfo("SentencePieceVocabulary", "none", 32_000, 0, 1, 3, 2)
    files = []
    for index in range(sources):
        lengths = np.clip(rng.lognormal(np.log(200), 0.7, documents // sources), 8, LENGTH).astype(int)
        examples = [{"targets": rng.integers(4, 32_000, length).astype(np.int32)} for length in lengths]
        features = {"targets": Feature("int32", vocabulary="bench", stored=stored)}
        name = f"task{index:03d}"
        manifest = write_cache(folder, name, "train", [examples], features=features, vocabularies={"bench": vocabulary})
        files.append(str(Path(folder) / name / "train" / manifest.shards[0].file))
    write_mixture(Path(folder) / "mix", Mixture("mix", "examples", {f"task{i:03d}": 1.0 for i in range(sources)}))
    return files


def our_batches(folder: str) -> Iterator[dict[str, np.ndarray]]:
    """Our loader, without its background thread, so that one core does all the work."""
    config = DataConfig(folder, "mix", CausalLM(), batch_size=ROWS, length=LENGTH, prefetch=0)
    return open_loader(config)


def grain_batches(files: list[str], stored: str) -> Iterator[dict[str, np.ndarray]]:
    """The peer."""

    feature = Feature("int32", stored=stored)

    def element(record: bytes) -> dict[str, np.ndarray]:
        targets = restore("targets", decode_example(record, np.int32)["targets"], feature)
        inputs = np.empty_like(targets)
        inputs[0], inputs[1:] = 3, targets[:-1]
        return {"inputs": inputs, "targets": targets}

    parts = [
        grain.MapDataset.source(grain.sources.ArrayRecordDataSource([file])).shuffle(seed=index).repeat()
        for index, file in enumerate(files)
    ]
    mixed = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts)
    rows = grain.experimental.FirstFitPackIterDataset(
        mixed.map(element).to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)),
        length_struct={"inputs": LENGTH, "targets": LENGTH},
        num_packing_bins=BINS,
    )
    return iter(rows.batch(ROWS))


def tokens_per_second(batches: Iterator[dict[str, np.ndarray]], segment_ids: str, padding: list[float]) -> float:
    """Non-padding tokens of `BATCHES` batches per second, after warming up; appends the padding fraction."""
    for _ in range(WARM):
        next(batches)
    tokens = slots = 0
    start = time.perf_counter()
    for _ in range(BATCHES):
        array = next(batches)[segment_ids]
        tokens += int(np.count_nonzero(array))
        slots += array.size
    elapsed = time.perf_counter() - start
    padding.append(1 - tokens / slots)
    return tokens / elapsed


def main() -> None:
    """Prints both rates, both paddings, and the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--sources", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stored", choices=("uint16", "list"), default="uint16")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        files = write_documents(folder, arguments.documents, arguments.sources, arguments.stored)
        ours_padding: list[float] = []
        peer_padding: list[float] = []
        result = compare(
            lambda: tokens_per_second(our_batches(folder), "decoder_segment_ids", ours_padding),
            lambda: tokens_per_second(grain_batches(files, arguments.stored), "targets_segment_ids", peer_padding),
            arguments.runs,
        )
    print(f"padding: ours {np.mean(ours_padding):.2%}, peer {np.mean(peer_padding):.2%}")
    what = f"token shards of {arguments.sources} sources to packed rows of {LENGTH}, one core, against grain"
    print(ratio_line(what, "tokens/s", result))


if __name__ == "__main__":
    main()
