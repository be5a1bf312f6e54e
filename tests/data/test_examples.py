import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.examples import decode_example, encode_example
from t5x_style.errors import UserError

int64 = st.integers(-(2**63), 2**63 - 1)
# A feature's values: integers, or floats that float32 holds exactly.
values = st.one_of(st.lists(int64), st.lists(st.floats(width=32, allow_nan=False), min_size=1), st.lists(st.binary()))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_round_trip(features):
    decoded = decode_example(encode_example(features))
    assert set(decoded) == set(features)
    for name, value in features.items():
        assert list(decoded[name]) == list(value)


def test_kinds_and_types():
    features = {"b": np.array([1.5, -2.0], np.float64), "a": np.array([7, -1], np.int32), "c": ["é", "x"], "e": []}
    decoded = decode_example(encode_example(features))
    assert decoded["a"].dtype == np.int64
    assert decoded["b"].dtype == np.float32
    assert decoded["c"] == ["é".encode(), b"x"]
    assert decoded["e"].dtype == np.int64
    assert decode_example(encode_example({"a": [7]}), np.int32)["a"].dtype == np.int32
    assert decode_example(encode_example({"f": np.zeros(0, np.float32)}))["f"].dtype == np.float32


def test_equal_inputs_give_equal_bytes():
    first = encode_example({"b": [1], "a": [2], "c": [3]})
    assert first == encode_example({"c": [3], "a": [2], "b": [1]})


@pytest.mark.parametrize("value", [np.zeros((2, 2), np.int32), np.array([1j]), [[1], [2, 3]], [1, "a"], [2**63]])
def test_refuses_what_a_shard_cannot_hold(value):
    with pytest.raises(UserError, match="'ids'"):
        encode_example({"ids": value})


def test_bad_records():
    with pytest.raises(UserError, match=r"not a tf\.train\.Example"):
        decode_example(b"\xff\xff\xff")
    with pytest.raises(UserError, match="does not fit int32"):
        decode_example(encode_example({"a": [2**31]}), np.int32)


PARITY = """
import sys
order, record = sys.argv[1:]
if order == "tensorflow first":
    import tensorflow as tf
import numpy as np
from t5x_style.data.examples import decode_example, encode_example
ours = encode_example({"a": [1, -5, 2**40], "b": np.float32([1.5, -0.0]), "c": [b"x", b""], "d": []})
if order == "ours first":
    import tensorflow as tf
def feature(**kind):
    return tf.train.Feature(**kind)
theirs = tf.train.Example(features=tf.train.Features(feature={
    "a": feature(int64_list=tf.train.Int64List(value=[1, -5, 2**40])),
    "b": feature(float_list=tf.train.FloatList(value=[1.5, -0.0])),
    "c": feature(bytes_list=tf.train.BytesList(value=[b"x", b""])),
    "d": feature(int64_list=tf.train.Int64List()),
}))
assert ours == theirs.SerializeToString(deterministic=True)
assert tf.train.Example.FromString(ours) == theirs
back = decode_example(theirs.SerializeToString())
assert back["a"].tolist() == [1, -5, 2**40] and back["b"].tolist() == [1.5, -0.0] and back["c"] == [b"x", b""]
assert back["d"].size == 0
parsed = tf.io.parse_single_example(ours, {"a": tf.io.VarLenFeature(tf.int64)})["a"]
assert tf.sparse.to_dense(parsed).numpy().tolist() == [1, -5, 2**40]
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
@pytest.mark.parametrize("order", ["tensorflow first", "ours first"])
def test_same_bytes_as_tensorflow_in_one_process(order):
    done = subprocess.run(
        [sys.executable, "-c", PARITY, order, ""], capture_output=True, text=True, env=_quiet_environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _quiet_environment():
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


def test_import_is_light():
    code = (
        "import sys, t5x_style.data, t5x_style.data.shards, t5x_style.data.objectives\n"
        "heavy = {'tensorflow', 'seqio', 'apache_beam', 'torch', 'gin', 'grain', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
