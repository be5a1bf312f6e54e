"""What the manifest says about a Task's features: token ids, numbers, or arrays.

    seqio.Feature of integers and rank 1               ids       uint16 or uint32, checked against its vocabulary
    seqio.ContinuousFeature, or floats: rank 1         numbers   a list of int64 or float32
    the same in uint8; bool; any other rank            array     bytes with dtype and shape

A PassThroughVocabulary in a seqio.Feature therefore holds token ids that were made elsewhere; spans, labels and scores
are declared as seqio.ContinuousFeature(dtype=tf.int32).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import seqio
import tensorflow as tf

from beam_pipelines.caching.vocabularies import vocabulary_fingerprint, vocabulary_info, vocabulary_size
from t5x_style.data.examples import id_storage
from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.errors import UserError

INTEGER_TYPES = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64)
FLOAT_TYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


@dataclasses.dataclass(frozen=True)
class Described:
    """A Task's features, their vocabularies' facts, and the vocabularies themselves, by fingerprint."""

    features: dict[str, Feature]
    infos: dict[str, VocabularyInfo]
    vocabularies: dict[str, seqio.Vocabulary]
    sizes: dict[str, int | None]  # of ids: feature -> size


def kind_of(feature: seqio.Feature) -> str:
    """ "ids", "numbers" or "array"; see the module."""
    tokens = not isinstance(feature, seqio.ContinuousFeature) and feature.dtype in INTEGER_TYPES
    if tokens and feature.rank == 1:
        return "ids"
    flat = feature.rank == 1 and feature.dtype not in (tf.bool, tf.uint8)
    return "numbers" if flat else "array"


def has_arrays(task: seqio.Task) -> bool:
    """Whether the shape of a feature has to be asked of its dataset."""
    return any(kind_of(feature) == "array" for feature in task.output_features.values())


def describe_features(task: seqio.Task, specs: Mapping[str, Any] | None = None) -> Described:
    """Features of a Task, and its vocabularies.

    Args:
      specs: element_spec of its dataset, for the shapes of arrays.

    Raises:
      UserError: a feature that a token shard cannot hold.
    """
    described = Described({}, {}, {}, {})
    for name, feature in task.output_features.items():
        where = f"Task {task.name!r}: feature {name!r}"
        if feature.dtype not in (*INTEGER_TYPES, *FLOAT_TYPES, tf.bool):
            raise UserError(
                f"{where} is {feature.dtype.name}; a token shard holds integers, floats and bool: take the feature "
                "out of output_features, or make ids of it"
            )
        kind = kind_of(feature)
        if kind == "ids":
            _add_ids(described, name, feature)
        elif kind == "numbers":
            # Example records hold floats as float32.
            dtype = "float32" if feature.dtype in FLOAT_TYPES else feature.dtype.name
            described.features[name] = Feature(dtype, 1, kind="numbers")
        else:
            shape = None if specs is None or name not in specs else _shape(where, specs[name].shape)
            # bfloat16 is no type of numpy's own; float32 holds every one of its values.
            dtype = "float32" if feature.dtype == tf.bfloat16 else feature.dtype.name
            described.features[name] = Feature(dtype, feature.rank, kind="array", stored=dtype, shape=shape)
    return described


def _add_ids(described: Described, name: str, feature: seqio.Feature) -> None:
    vocabulary = feature.vocabulary
    fingerprint = vocabulary_fingerprint(vocabulary)
    size = vocabulary_size(vocabulary)
    if fingerprint is not None:
        described.infos[fingerprint] = vocabulary_info(vocabulary)
        described.vocabularies[fingerprint] = vocabulary
    described.sizes[name] = size
    described.features[name] = Feature(
        feature.dtype.name, 1, bool(feature.add_eos), fingerprint, "ids", id_storage(size)
    )


def _shape(where: str, shape: tf.TensorShape) -> tuple[int | None, ...]:
    if shape.rank is None or sum(size is None for size in shape.as_list()) > 1:
        raise UserError(
            f"{where} has shape {shape}; a token shard holds arrays with at most one unknown dimension: end the step "
            "that makes it with tf.ensure_shape, or reshape it to one"
        )
    return tuple(shape.as_list())
