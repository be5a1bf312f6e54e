"""tf.train.Example records without TensorFlow.

The message types are declared at run time in a descriptor pool of their own, so they neither need TensorFlow nor
collide with the types TensorFlow registers when both live in one process. The wire format is the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data.manifest import Feature
from t5x_style.errors import UserError

_STORED = {name: np.dtype(name).newbyteorder("<") for name in ("uint16", "uint32")}


@functools.cache
def _example_class() -> Any:
    """The tf.train.Example message class, built once from descriptors (field numbers: tensorflow/core/example)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="t5x_style/example.proto", package="tensorflow", syntax="proto3")

    def add_field(message, name, number, field_type, *, repeated=False, type_name="", packed=False, oneof=None):
        label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, type=field_type, label=label)
        if type_name:
            field.type_name = f".tensorflow.{type_name}"
        if packed:
            field.options.packed = True
        if oneof is not None:
            field.oneof_index = oneof

    add_field(file.message_type.add(name="BytesList"), "value", 1, kind.TYPE_BYTES, repeated=True)
    add_field(file.message_type.add(name="FloatList"), "value", 1, kind.TYPE_FLOAT, repeated=True, packed=True)
    add_field(file.message_type.add(name="Int64List"), "value", 1, kind.TYPE_INT64, repeated=True, packed=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), start=1):
        list_type = "".join(part.capitalize() for part in name.split("_"))
        add_field(feature, name, number, kind.TYPE_MESSAGE, type_name=list_type, oneof=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add_field(entry, "key", 1, kind.TYPE_STRING)
    add_field(entry, "value", 2, kind.TYPE_MESSAGE, type_name="Feature")
    add_field(features, "feature", 1, kind.TYPE_MESSAGE, repeated=True, type_name="Features.FeatureEntry")
    example = file.message_type.add(name="Example")
    add_field(example, "features", 1, kind.TYPE_MESSAGE, type_name="Features")

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Serializes one example; equal inputs give equal bytes (keys are written in order).

    Args:
      features: name -> a flat sequence or 1-D array. Integers become an int64 list, floats a float list, bytes and
        str (UTF-8) a bytes list. An empty plain sequence is an empty int64 list; an empty array keeps its kind.

    Raises:
      UserError: a feature has more than one dimension or another type.
    """
    example = _example_class()()
    for name, value in features.items():
        slot = example.features.feature[name]
        items = _as_list(name, value)
        if items is None:
            slot.float_list.value.extend(np.asarray(value, np.float32).tolist())
        elif items and isinstance(items[0], bytes):
            slot.bytes_list.value.extend(items)
        else:
            slot.int64_list.SetInParent()
            slot.int64_list.value.extend(items)
    return example.SerializeToString(deterministic=True)


def _as_list(name: str, value: Sequence | np.ndarray) -> list | None:
    """Integers or bytes as a list; None for floats."""
    if not isinstance(value, np.ndarray):
        value = list(value)
        if value and all(isinstance(item, (bytes, str)) for item in value):
            return [item.encode("utf-8") if isinstance(item, str) else item for item in value]
    try:
        array = np.asarray(value, np.int64) if isinstance(value, list) and not value else np.asarray(value)
    except ValueError as error:
        raise UserError(f"feature {name!r} is ragged; a token shard holds flat lists only") from error
    if array.ndim != 1:
        raise UserError(f"feature {name!r} has {array.ndim} dimensions; a token shard holds flat lists only")
    if array.dtype.kind in "ib" or (array.dtype.kind == "u" and array.max(initial=0) < 2**63):
        return array.tolist()
    if array.dtype.kind == "f":
        return None
    raise UserError(f"feature {name!r} has type {array.dtype}; a token shard holds integers, floats or bytes")


def decode_example(record: bytes, integer_type: type = np.int64, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Parses one serialized tf.train.Example.

    Args:
      record: the serialized message.
      integer_type: numpy type of the integer features; np.int32 refuses ids that do not fit.
      names: of the features wanted, those that are there; None: all.

    Returns:
      name -> 1-D array of `integer_type` or float32, or a list of bytes.

    Raises:
      UserError: the bytes are no tf.train.Example, or an integer does not fit.
    """
    from google.protobuf.message import DecodeError

    try:
        message = _example_class().FromString(record)
    except DecodeError as error:
        raise UserError(f"a record of {len(record)} bytes is not a tf.train.Example ({error})") from error
    features: dict[str, Any] = {}
    found = message.features.feature
    for name in found if names is None else names:
        if name not in found:
            continue
        feature = found[name]
        kind = feature.WhichOneof("kind")
        if kind == "float_list":
            features[name] = np.fromiter(feature.float_list.value, np.float32)
        elif kind == "bytes_list":
            features[name] = list(feature.bytes_list.value)
        else:
            try:
                features[name] = np.fromiter(feature.int64_list.value, integer_type)
            except OverflowError as error:
                raise UserError(f"feature {name!r} holds an id that does not fit {integer_type.__name__}") from error
    return features


def id_storage(size: int | None) -> str:
    """How ids below `size` are stored (Feature.stored): "uint16", or "uint32" where they do not fit or nobody knows."""
    return "uint16" if size is not None and size <= 2**16 else "uint32"


def store(name: str, value: Any, feature: Feature | None) -> Any:
    """The value of a feature as a record holds it: a list of numbers, or its bytes in a list of one.

    Example:
      store("targets", [7, 300], Feature("int32", stored="uint16")) == [b"\\x07\\x00,\\x01"]

    Raises:
      UserError: ids that do not fit, an array of another shape or with values that its dtype cannot hold.
    """
    if feature is None or (feature.kind != "array" and feature.stored == "list"):
        return value
    array = np.asarray(value)
    if feature.kind == "array":
        _check_shape(name, array.shape, feature)
        return [np.ascontiguousarray(array, np.dtype(feature.dtype).newbyteorder("<")).tobytes()]
    if array.ndim != 1:
        raise UserError(f"feature {name!r} has {array.ndim} dimensions; token ids are flat lists")
    limit = np.iinfo(feature.stored).max
    if array.size and (array.dtype.kind not in "iub" or array.min() < 0 or array.max() > limit):
        raise UserError(f"feature {name!r} holds {array.min()}..{array.max()}; token ids here lie in [0, {limit}]")
    return [array.astype(np.dtype(feature.stored).newbyteorder("<")).tobytes()]


def _check_shape(name: str, found: tuple[int, ...], feature: Feature) -> None:
    wanted = feature.shape or ()
    if len(found) != len(wanted) or any(want not in (None, size) for want, size in zip(wanted, found)):
        raise UserError(f"feature {name!r} has shape {list(found)}, its Task declares {list(wanted)}")


def restore(name: str, value: Any, feature: Feature) -> np.ndarray:
    """The inverse of `store`, from what `decode_example` gives: int32 ids, numbers, or an array.

    Raises:
      UserError: it is stored otherwise than the feature says.
    """
    if feature.kind != "array" and feature.stored == "list":
        if isinstance(value, list):
            raise UserError(f"feature {name!r} holds bytes, its manifest says numbers")
        return value
    if not isinstance(value, list) or len(value) != 1:
        raise UserError(f"feature {name!r} holds no bytes, its manifest says {feature.stored}")
    if feature.kind == "array":
        array = np.frombuffer(value[0], np.dtype(feature.dtype).newbyteorder("<"))
        return array.reshape([-1 if size is None else size for size in feature.shape or ()])
    return np.frombuffer(value[0], _STORED[feature.stored]).astype(np.int32)
