"""Finds randomness in preprocessing steps: in their code, in their tf.data graph, and by running them twice."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# How far called functions are followed; a step that hides its randomness deeper is found by running it twice.
DEPTH = 5
# Ops that draw anew on every call. Stateless ones depend on their inputs alone.
RANDOM_OPS = {
    "RandomUniform",
    "RandomUniformInt",
    "RandomStandardNormal",
    "ParameterizedTruncatedNormal",
    "TruncatedNormal",
    "RandomShuffle",
    "RandomGamma",
    "RandomPoisson",
    "RandomPoissonV2",
    "Multinomial",
    "StatefulUniform",
    "StatefulUniformInt",
    "StatefulStandardNormalV2",
}
_OPAQUE = ("tensorflow", "numpy", "builtins", "functools", "typing", "collections", "absl", "inspect")


def _is_seeded_map(function: Any) -> bool:
    """Whether a function is what `seqio.map_over_dataset(num_seeds=...)` returns."""
    if type(function).__name__ == "_GrainRandomMapFn":
        return True
    code = getattr(function, "__code__", None)
    return code is not None and code.co_name == "wrapped_fn" and "num_seeds" in code.co_freevars


def uses_seeds(step: Callable[..., Any], depth: int = DEPTH) -> bool:
    """Whether a step is, wraps or calls a map function that seqio hands random seeds."""
    return any(_is_seeded_map(function) for function in _reachable(step, depth, set()))


def _python_function(value: Any) -> Any:
    """The function behind a function, a method or an object that can be called."""
    if inspect.isfunction(value):
        return value
    return getattr(value, "__func__", None) or type(value).__call__


def _reachable(value: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    """`value` and the functions it holds or names: partials, closures, wrapped functions, globals it mentions."""
    if depth < 0 or id(value) in seen or not callable(value):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args, *value.keywords.values()):
            yield from _reachable(part, depth, seen)
        return
    function = _python_function(value)
    if not inspect.isfunction(function) or (function.__module__ or "").split(".")[0] in _OPAQUE:
        return
    for cell in function.__closure__ or ():
        try:
            yield from _reachable(cell.cell_contents, depth - 1, seen)
        except ValueError:  # a cell that is not filled yet
            continue
    for name in function.__code__.co_names:
        named = function.__globals__.get(name)
        if inspect.isfunction(named) or isinstance(named, functools.partial):
            yield from _reachable(named, depth - 1, seen)


def _graph_functions(dataset: Any) -> Iterator[Any]:
    for function in dataset._functions():
        graph = getattr(getattr(function, "function", None), "graph", None)
        if graph is not None:
            yield graph


def random_nodes(dataset: tf.data.Dataset) -> list[str]:
    """Names of what draws at random in a dataset's graph: shuffles, random sources, stateful random ops."""
    found: list[str] = []
    waiting: list[Any] = [dataset]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        kind = type(node).__name__
        if "Shuffle" in kind or kind == "_RandomDataset":
            found.append(kind.strip("_"))
        for graph in _graph_functions(node):
            inner = [graph, *(function.graph for function in graph._functions.values() if hasattr(function, "graph"))]
            for each in inner:
                found += [op.type for op in each.get_operations() if op.type in RANDOM_OPS or "Shuffle" in op.type]
        waiting.extend(node._inputs())
    return found


def seed_everything(seed: int) -> None:
    """Seeds TensorFlow, NumPy and Python, for steps that draw without seqio's seeds."""
    tf.random.set_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (other people's preprocessors use the global generator)
    random.seed(seed)


def same(first: Iterable[dict[str, Any]], second: Iterable[dict[str, Any]]) -> bool:
    """Whether two lists of examples are equal in every feature.

    >>> same([{"a": np.array([1, 2])}], [{"a": np.array([1, 3])}])
    False
    """
    first, second = list(first), list(second)
    if len(first) != len(second):
        return False
    return all(
        one.keys() == other.keys()
        and all(np.array_equal(np.asarray(one[name]), np.asarray(other[name])) for name in one)
        for one, other in zip(first, second)
    )
