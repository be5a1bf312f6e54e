"""Training on a GPU: the step of a 1B LLaMA at 4,096 packed tokens, bf16, against the device's own ceiling.

    python -m benchmarks.gpu_train --output gpu.json        under 5 minutes: ceilings, then one form after another
    python -m benchmarks.gpu_train --rows 4 8 --remat dots  only these, every combination; the rest as in the first form
    python -m benchmarks.gpu_train --size tiny              seconds on a CPU; its figures mean nothing

Needs JAX, flax, optax, orbax and this repository, run from its root. Each form of the step (rows of the batch, remat,
scan over the layers, tokens of a loss chunk) runs in a process of its own, so that its peak memory is its own, and one
that runs out of memory or of time is a row of the table and ends nothing else. Starting the process and compiling are
within --budget_s. After each form the JSON is written again, so an interrupted run keeps what it measured.

TFLOP/s counts what the model needs for one token, no recomputation, and of attention only the keys that a token sees in
its packed row; "PaLM" counts the whole row, as published MFUs do (see gpu_train_measure.py). The ceiling is the
fastest bf16 matrix product. Peak is the allocator's, initialisation and compilation included; program is what the
compiler plans for the step, known also where it did not fit. JAX_COMPILATION_CACHE_DIR, where it is set, carries what
XLA's autotuning found from form to form; "compile s" is then not from an empty cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.harness import Comparison, ratio_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import atomic_write_json

ROOT = Path(__file__).resolve().parent.parent
# One block of the memory, taken once: no cudaMalloc between steps. The rest is for CUDA's libraries.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92", "TF_CPP_MIN_LOG_LEVEL": "2"}
SETTINGS = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "XLA_PYTHON_CLIENT_MEM_FRACTION")  # what changes the figures
Row = dict[str, Any]
Measure = Callable[[Mapping[str, Any], float], Row]  # a job of gpu_train_measure and the seconds it may take


class Form(NamedTuple):
    """One way to run the step: rows of 4,096 tokens, and Execution's remat, scan and loss_chunk."""

    rows: int
    remat: str
    scan: bool
    loss_chunk: int


# The most telling first, each one change away from the first or from one above it; what the budget does not reach is
# listed as not run.
PLANS = {
    "1b": (
        Form(4, "full", True, 4096),
        Form(4, "dots", True, 4096),
        Form(4, "none", True, 4096),
        Form(8, "full", True, 4096),
        Form(4, "full", False, 4096),
        Form(4, "full", True, 16384),
        Form(4, "full", True, 1024),
        Form(8, "dots", True, 4096),
        Form(16, "full", True, 4096),
        Form(4, "dots", False, 4096),
        Form(8, "none", True, 4096),
    ),
    "tiny": (Form(2, "full", True, 64), Form(2, "none", True, 64), Form(2, "full", False, 64)),
}
COLUMNS = (
    "rows", "remat", "scan", "loss chunk", "tokens/s", "TFLOP/s", "of ceiling", "TFLOP/s (PaLM)", "step ms",
    "peak GiB", "program GiB", "compile s", "outcome",
)  # fmt: skip


def forms_of(arguments: argparse.Namespace) -> tuple[Form, ...]:
    """The plan of the size, or every combination of what was asked for."""
    plan = PLANS[arguments.size]
    asked = [getattr(arguments, name) for name in Form._fields]
    if not any(asked):
        return plan
    return tuple(itertools.starmap(Form, itertools.product(*(have or [one] for have, one in zip(asked, plan[0])))))


def measure_apart(job: Mapping[str, Any], seconds: float) -> Row:
    """Runs a job of gpu_train_measure in a process of its own, at most so long; returns what it told last."""
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "benchmarks.gpu_train_measure", json.dumps(job)]
    try:
        done = subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, timeout=seconds)
        told, ending = done.stdout, f"failed: exit code {done.returncode}"
    except subprocess.TimeoutExpired as stopped:
        told, ending = stopped.stdout or b"", f"stopped after {seconds:.0f} s"
    rows = [json.loads(line) for line in told.decode().splitlines() if line.startswith("{") and line.endswith("}")]
    return {"outcome": ending, **(rows[-1] if rows else {})}


def new_report(size: str, measure: Measure, seconds: float) -> Row:
    """The report without rows: device, model and ceilings, each the best of what was measured in `seconds`.

    Raises:
      UserError: not even the device could be opened.
    """
    told = measure({"job": "ceilings", "size": size}, seconds)
    products, copies = told.get("products", []), told.get("copies", [])
    ceilings = {
        "tflops": max((entry["tflops"] for entry in products), default=None),
        "gb_per_s": max((entry["gb_per_s"] for entry in copies), default=None),
        "products": products,
        "copies": copies,
        "outcome": told["outcome"],
    }
    if "device" not in told:
        raise UserError(told.get("error", f"the ceilings were not measured ({told['outcome']})"))
    settings = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    about = {"format": 1, "size": size, "environment": settings}
    return about | {name: told[name] for name in ("device", "model")} | {"ceilings": ceilings, "rows": []}


def sweep(
    report: Row,
    forms: Sequence[Form],
    measure: Measure,
    left: Callable[[], float],
    limit: float,
    timing: Mapping[str, Any],
) -> Iterator[Row]:
    """Measures the forms in turn into report["rows"], yielding after each.

    Args:
      left: seconds left of the budget; without any a form is not run. limit: seconds that one form may take.
      timing: further settings of the job.
    """
    ceiling = report["ceilings"]["tflops"]
    for form in forms:
        row: Row = {**form._asdict(), "outcome": "not run"}
        seconds = min(left(), limit)
        if seconds > 0:
            row |= measure({"job": "step", "size": report["size"], **form._asdict(), **timing}, seconds)
        if ceiling and "tflops" in row:
            row["share"] = row["tflops"] / ceiling
        report["rows"].append(row)
        yield row


def cells(row: Row) -> list[str]:
    """A row of the table, in the order of COLUMNS."""

    def number(name: str, form: str = ".1f") -> str:
        return "-" if row.get(name) is None else format(row[name], form)

    outcome = row["outcome"]
    if outcome == "failed" and "error" in row:
        outcome += ": " + row["error"][:80].replace("|", "/")
    return [
        str(row["rows"]), row["remat"], "on" if row["scan"] else "off", str(row["loss_chunk"]),
        number("tokens_per_s", ",.0f"), number("tflops", ".3g"), number("share", ".1%"), number("tflops_palm", ".3g"),
        number("step_ms"), number("peak_gib"), number("program_gib"), number("compile_s"), outcome,
    ]  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def heading(report: Row) -> str:
    """Device, model and ceilings in words."""
    device, model, ceilings = report["device"], report["model"], report["ceilings"]
    memory = "" if device["limit_gib"] is None else f", {device['limit_gib']:.1f} GiB for JAX"
    products = (f"{' x '.join(map(str, one['shape']))}: {one['tflops']:.3g}" for one in ceilings["products"])
    copies = (f"{one['bytes'] / 2**20:,.0f} MiB: {one['gb_per_s']:,.0f}" for one in ceilings["copies"])
    return (
        f"{device['count']} x {device['kind']}{memory}, JAX {device['jax']}\n"
        f"{model['name']}, {model['parameters'] / 1e6:,.1f}M parameters, {model['length']} tokens a row\n"
        f"bf16 product, TFLOP/s: {'; '.join(products) or ceilings['outcome']}\n"
        f"copy, GB/s read and written: {'; '.join(copies) or ceilings['outcome']}"
    )


def last_line(report: Row) -> str | None:
    """The ratio of the best form to the ceiling; None where nothing was measured."""
    measured = [row for row in report["rows"] if "share" in row]
    if not measured:
        return None
    best = max(measured, key=lambda row: row["share"])
    what = (
        f"training step against the bf16 matmul ceiling, {report['model']['name']}, {best['rows']} x "
        f"{report['model']['length']} tokens packed, {label(best)}"
    )
    values = Comparison(best["tflops"], report["ceilings"]["tflops"], len(best["steps_ms"]))
    return ratio_line(what, "TFLOP/s", values)


def label(row: Row) -> str:
    """How a form runs, without its rows."""
    return f"remat {row['remat']}, {'scanned' if row['scan'] else 'unrolled'}, loss chunk {row['loss_chunk']}"


def run(arguments: argparse.Namespace, measure: Measure = measure_apart) -> int:
    """Measures, prints and writes; the exit code is 1 where no form was measured."""
    began = time.monotonic()

    def left() -> float:
        return arguments.budget_s - (time.monotonic() - began)

    def save() -> None:
        report["seconds"] = time.monotonic() - began
        if arguments.output:
            atomic_write_json(arguments.output, report)

    report = new_report(arguments.size, measure, left())
    save()
    print(heading(report), flush=True)
    forms, limit = forms_of(arguments), arguments.limit_s or arguments.budget_s / 2
    timing = {"steps": arguments.steps, "seconds": arguments.seconds}
    try:
        for done, row in enumerate(sweep(report, forms, measure, left, limit, timing), 1):
            save()
            rate = f"{row['tokens_per_s']:,.0f} tokens/s" if "tokens_per_s" in row else row["outcome"]
            print(
                f"{report['seconds']:4.0f} s  {done}/{len(forms)}  {row['rows']} rows, {label(row)}: {rate}", flush=True
            )
    finally:
        print(table(report["rows"]))
    ratio = last_line(report)
    print(ratio or "no ratio: no form was measured, or no ceiling")
    return 0 if ratio else 1


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see --help")


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments.

    Raises:
      UserError: they are not what they must be.
    """
    parser = _Parser(prog="gpu_train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=PLANS, default="1b")
    parser.add_argument("--output", type=Path, help="the JSON file")
    parser.add_argument("--budget_s", type=_positive, default=280, help="a form under way then is stopped")
    parser.add_argument("--limit_s", type=_positive, help="of one form, compilation included; half the budget")
    parser.add_argument("--steps", type=_positive, default=6, help="timed steps of a form at most")
    parser.add_argument("--seconds", type=_positive, default=6, help="of timed steps, once there are three")
    parser.add_argument("--rows", type=_positive, nargs="+")
    parser.add_argument("--remat", choices=("none", "dots", "full"), nargs="+")
    parser.add_argument("--scan", choices=("on", "off"), nargs="+")
    parser.add_argument("--loss_chunk", type=_positive, nargs="+")
    arguments = parser.parse_args(argv)
    if arguments.output and arguments.output.is_dir():
        raise UserError(f"--output {arguments.output} is a folder; give a file name")
    arguments.scan = arguments.scan and [word == "on" for word in arguments.scan]
    return arguments


def main(argv: Sequence[str]) -> int:
    """Parses and runs; a termination signal ends the process that measures, too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return run(parse(argv))


if __name__ == "__main__":
    raise SystemExit(run_main(main))
