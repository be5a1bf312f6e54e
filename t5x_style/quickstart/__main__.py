"""Runs the main job: python -m t5x_style.quickstart [--output DIR] [--input WARC_GLOB ...].

Every stage is one of the project's own commands, run as a process of its own. What is finished is remembered in
DIR/quickstart.json; after an interrupt the same command continues where it stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from t5x_style import command_line, compilation_cache, files
from t5x_style.errors import UserError, run_main
from t5x_style.quickstart import environment
from t5x_style.quickstart import stages as planned

STATE = "quickstart.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_line.parser("t5x_style.quickstart", __doc__)
    parser.add_argument("--output", default="quickstart_run", help="folder of the run (default: %(default)s)")
    parser.add_argument("--input", nargs="+", help="WARC/WET globs, local or cloud, instead of the documentation crawl")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="small: a check in two minutes")
    parser.add_argument("--workers", type=int, default=2, help="processes of the Beam stages (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers} must be at least 1")
    output = files.require_writable(arguments.output, "--output")
    planned.check_inputs(arguments.input or [])
    size = planned.FULL if arguments.size == "full" else planned.SMALL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the running stage is stopped too
    stages = planned.plan(output, size, arguments.input, arguments.workers)
    run_stages(stages, output, Console(stderr=True))
    Console().print(f"report: {planned.report_path(stages)}", soft_wrap=True)
    return 0


def run_stages(stages: Sequence[planned.Stage], output: Path, console: Console) -> None:
    """Runs the stages that are not finished, in order; once one runs, all after it run.

    Raises:
      UserError: a stage failed (its own message stands above).
      KeyboardInterrupt: the user stopped it; the stage that ran has saved what it could.
    """
    state_file = output / STATE
    state: dict[str, Any] = files.read_json(state_file) if state_file.exists() else {"stages": []}
    done = {row["name"]: row for row in state["stages"]}
    rows: list[dict[str, Any]] = []
    fresh = False
    for number, stage in enumerate(stages, 1):
        label = f"[{number}/{len(stages)}] {stage.name}: {stage.title}"
        known = done.get(stage.name)
        if not fresh and known is not None and known["finished"] and known["arguments"] == list(stage.arguments):
            console.print(f"{label}: done before ({known['seconds']:.1f} s)", markup=False, highlight=False)
            rows.append(known)
            continue
        fresh = True
        console.print(label, markup=False, highlight=False)
        # Time of an interrupted attempt at the same command counts too: the figure is what the stage took in all.
        same = known is not None and known["arguments"] == list(stage.arguments) and not known["finished"]
        spent = known["seconds"] if known is not None and same else 0.0
        began = time.monotonic()
        finished = False
        try:
            _run(stage)
            stage.check()
            finished = True
        finally:
            seconds = round(spent + time.monotonic() - began, 2)
            row = {
                "name": stage.name,
                "title": stage.title,
                "arguments": list(stage.arguments),
                "seconds": seconds,
                "finished": finished,
            }
            rows.append(row)
            files.atomic_write_json(state_file, {"stages": rows})
        console.print(f"    {seconds:.1f} s", markup=False, highlight=False)


def _run(stage: planned.Stage) -> None:
    """Runs one command; Ctrl-C reaches it as well, and it is given the time to save."""
    training = environment.TRAINING if "t5x_style.train" in stage.arguments else {}
    variables = {**environment.DEFAULTS, **compilation_cache.environment(), **training, **os.environ}
    process = subprocess.Popen([sys.executable, *stage.arguments], env=variables)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # the terminal sent the signal to the whole group
        raise
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code:
        command = f"{Path(sys.executable).name} {' '.join(stage.arguments)}"
        raise UserError(
            f"stage {stage.name} failed with exit code {code}; its message stands above. Command: {command}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
