"""The parity table: python -m tests.parity.table [--markdown] [NAME ...]

One row a case of tests/parity/cases: largest difference of logits (relative above 1), tensors that go there and back to
the bit, gradients' largest difference where they are compared, greedy tokens. Ends with 1 where something is beyond
tolerance.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import transformers

from tests.parity import compare, pairs
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
    cases = {
        name: case
        for name, case in all_cases().items()
        if not options.names or any(name.startswith(start) for start in options.names)
    }
    if not cases:
        parser.error(f"no case begins with {' or '.join(options.names)}")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(line(HEADER, options.markdown))
    if options.markdown:
        print(line(("---",) * len(HEADER), True))
    failures = []
    for name, case in cases.items():
        found = row(name, case)
        print(line(found.cells, options.markdown), flush=True)
        failures += [f"{name}: {failure}" for failure in found.failures]
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
