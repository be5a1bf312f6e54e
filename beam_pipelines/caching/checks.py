"""Checks of what is cached: ids inside their vocabulary, arrays of their shape, an EOS where one is appended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import seqio

from beam_pipelines.caching.features import Described, kind_of
from beam_pipelines.caching.vocabularies import special_id, vocabulary_size
from t5x_style.data.manifest import Feature
from t5x_style.errors import UserError


def check_example(where: str, example: Mapping[str, np.ndarray], described: Described) -> None:
    """Refuses an example that a shard cannot hold.

    Args:
      where: begins the message: Task, split, shard and number of the example.

    Raises:
      UserError: an id outside the vocabulary, or an array of another shape.
    """
    for name, value in example.items():
        feature = described.features[name]
        if feature.kind == "ids":
            _check_ids(where, name, value, feature, described.sizes[name])
        elif feature.kind == "array" and feature.shape is not None:
            wanted = feature.shape
            if len(wanted) != value.ndim or any(want not in (None, size) for want, size in zip(wanted, value.shape)):
                raise UserError(
                    f"{where}: feature {name!r} has shape {list(value.shape)}, its Task declares {list(wanted)}; "
                    "mend the step that makes it"
                )


def _check_ids(where: str, name: str, ids: np.ndarray, feature: Feature, size: int | None) -> None:
    if not ids.size:
        return
    limit = 2**31 if size is None else size  # the loader's ids are int32
    worst = ids.max() if ids.min() >= 0 else ids.min()
    if 0 <= worst < limit:
        return
    remedy = (
        "mend the step that makes it"
        if feature.vocabulary is not None
        else "give its PassThroughVocabulary the right size, or declare it a seqio.ContinuousFeature if it is no token"
    )
    raise UserError(f"{where}: feature {name!r} holds the id {int(worst)}, its ids lie in [0, {limit}); {remedy}")


def check_eos(task: seqio.Task, names: Iterable[str]) -> None:
    """Refuses a Task that appends an EOS to ids of a vocabulary that has none.

    Args:
      names: the features to which one of its steps appends an EOS.

    Raises:
      UserError: naming the feature and its vocabulary.
    """
    for name in names:
        feature = task.output_features[name]
        vocabulary = feature.vocabulary
        if special_id(vocabulary, "eos_id", vocabulary_size(vocabulary)) is not None:
            continue
        kind = type(vocabulary).__name__
        give = {
            "PassThroughVocabulary": "give it one, PassThroughVocabulary(size=..., eos_id=...)",
            "BertWordPieceVocabulary": "give it one, BertWordPieceVocabulary(..., end_of_sequence_id=...)",
        }.get(kind, "take a vocabulary that has one")
        if kind_of(feature) != "ids":
            give = "it is no feature of tokens"
        raise UserError(
            f"Task {task.name!r}: an EOS is appended to feature {name!r}, but its {kind} has none; "
            f"set add_eos=False for it in output_features, or {give}"
        )
