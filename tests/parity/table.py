"""The parity table: python -m tests.parity.table [--markdown] [NAME ...]

One row a case of tests/parity/cases: largest difference of logits (relative above 1), tensors that go there and back to
the bit, gradients' largest difference where they are compared, greedy tokens. Then one row a class with task heads (of
several heads over one encoder each is one of these) and one a recurrent layer against torch.nn, whose outputs are
compared. Ends with 1 where something is beyond tolerance.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from tests.parity import compare, pairs, test_recurrent, test_task_heads
from tests.parity.cases.case import Case, all_cases

TOLERANCE = 2e-4  # of logits, and of gradients relative to a tensor's largest entry
HEADER = ("family", "configuration", "against", "logits", "tensors", "gradients", "greedy")


class Row(NamedTuple):
    """One case: cells in the order of HEADER, and what is beyond tolerance."""

    cells: tuple[str, ...]
    failures: tuple[str, ...]


def row(name: str, case: Case) -> Row:
    """Compares one case."""
    pair, failures = pairs.make(case), []
    difference = compare.logits_difference(*pairs.logits(pair))
    if not difference <= TOLERANCE:
        failures.append(f"logits differ by {difference:.1e}")
    try:
        tensors = f"{len(compare.exported(pair))} equal"
    except AssertionError as error:
        tensors = "differ"
        failures.append(f"tensors: {str(error).splitlines()[0] if str(error) else 'names'}")
    gradients = greedy = "-"
    if case.gradients:
        worst, tensor = compare.gradient_difference(pair)
        gradients = f"{worst:.1e}"
        if not worst <= TOLERANCE:
            failures.append(f"gradient of {tensor} differs by {worst:.1e}")
    if compare.generates(pair):
        ours, theirs = compare.our_tokens(pair), compare.their_tokens(pair)
        same = sum(a == b for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
        wanted = sum(map(len, theirs))
        greedy = f"{same}/{wanted}"
        if same < wanted:
            failures.append(f"{wanted - same} of {wanted} greedy tokens differ")
    against = "numpy" if case.reference is not None else "transformers"
    cells = (pair.settings["model_type"], name, against, f"{difference:.1e}", tensors, gradients, greedy)
    return Row(cells, tuple(failures))


def head_row(name: str) -> Row:
    """Compares one class with a task head."""
    head = test_task_heads.CASES[name]
    pair = pairs.make(head.case)
    test_task_heads.check_tensors(pair)
    both = test_task_heads.answers(head, pair)
    worst = max(_difference(found, expected) for found, expected in both)
    cells = (pair.settings["model_type"], name, "transformers", f"{worst:.1e}", f"{len(pair.tensors)} equal", "-", "-")
    return Row(cells, _beyond(worst))


def recurrent_row(name: str) -> Row:
    """Compares one recurrent layer."""
    theirs, layer, inputs = test_recurrent.pair(name)
    with torch.no_grad():
        expected = theirs(torch.tensor(inputs))[0].numpy()
    found = layer(jnp.asarray(inputs), None, layer.empty_state(len(inputs)))[0]
    worst = _difference(np.asarray(found), expected)
    return Row(("recurrent", name, "torch.nn", f"{worst:.1e}", "-", "-", "-"), _beyond(worst))


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected) / np.maximum(1, np.abs(expected))))


def _beyond(worst: float) -> tuple[str, ...]:
    return () if worst <= TOLERANCE else (f"outputs differ by {worst:.1e}",)


def line(cells: tuple[str, ...], markdown: bool) -> str:
    """One row of the table."""
    if markdown:
        return f"| {' | '.join(cells)} |"
    return "".join(cell.ljust(width) for cell, width in zip(cells, (21, 33, 14, 9, 12, 11, 8), strict=True)).rstrip()


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; 1 where something is beyond tolerance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="cases, or beginnings of their names; all if none")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    options = parser.parse_args(arguments)
    rows: dict[str, Callable[[], Row]] = {
        **{name: functools.partial(row, name, case) for name, case in all_cases().items()},
        **{name: functools.partial(head_row, name) for name in test_task_heads.CASES},
        **{name: functools.partial(recurrent_row, name) for name in test_recurrent.CASES},
    }
    chosen = {name: make for name, make in rows.items() if not options.names or name.startswith(tuple(options.names))}
    if not chosen:
        parser.error(f"no case begins with {' or '.join(options.names)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(line(HEADER, options.markdown))
    if options.markdown:
        print(line(("---",) * len(HEADER), True))
    failures = []
    for name, make in chosen.items():
        found = make()
        print(line(found.cells, options.markdown), flush=True)
        failures += [f"{name}: {failure}" for failure in found.failures]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
