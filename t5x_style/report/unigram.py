"""The loss of the best model that knows only how often each token occurs: what pretraining must get below."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from t5x_style import files
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import read_manifest
from t5x_style.errors import UserError


def entropy(counts: np.ndarray) -> float:
    """Entropy in nats per token of the distribution that `counts` [vocabulary] describe.

    Example:
      entropy([2, 1, 1, 0]) == 1.5 * log(2)

    Raises:
      ValueError: negative counts, or nothing counted.
    """
    counts = np.asarray(counts, np.float64)
    total = counts.sum()
    if (counts < 0).any() or total <= 0:
        raise ValueError(f"token counts must be non-negative with a positive sum, the sum is {total}")
    shares = counts[counts > 0] / total
    return float(-np.sum(shares * np.log(shares)))


def token_counts(cache_dir: str | Path, task: str, split: str, feature: str = "targets") -> np.ndarray:
    """How often every id stands in a token cache, the EOS that the loader appends included: int64 [vocabulary].

    Raises:
      UserError: no such cache, or no such feature of token ids.
    """
    from array_record.python import array_record_module

    manifest = read_manifest(cache_dir, task, split)
    described = manifest.features.get(feature)
    if described is None or described.vocabulary is None:
        raise UserError(f"cache {task!r} has no feature {feature!r} of token ids")
    vocabulary = manifest.vocabularies[described.vocabulary]
    counts = np.zeros(vocabulary.size, np.int64)
    for shard in manifest.shards:
        path = files.local_copy(files.join(cache_dir, task, split, shard.file))
        reader = array_record_module.ArrayRecordReader(str(path))
        for record in reader.read_all():
            tokens = restore(feature, decode_example(record, np.int32)[feature], described)
            counts += np.bincount(tokens, minlength=vocabulary.size)
        reader.close()
        files.release(path)
    if feature in manifest.append_eos and vocabulary.eos_id is not None:
        counts[vocabulary.eos_id] += manifest.examples
    return counts
