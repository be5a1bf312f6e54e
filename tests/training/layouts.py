"""Runs of small_run.py on 8 virtual devices, all in this process: python layouts.py FOLDER '{NAME: [BINDING, ...]}'.

A run writes FOLDER/NAME. FOLDER/layouts.json gets, for each run, its exit code, or the traceback of what it raised.
"""

import json
import os
import sys
import traceback
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
from small_run import arguments

from t5x_style.train import main

RESULTS = "layouts.json"


def run_all(folder: Path, layouts: dict[str, list[str]]) -> dict[str, int | str]:
    """Trains every layout; one that fails leaves the others to go on."""
    results: dict[str, int | str] = {}
    for name, bindings in layouts.items():
        try:
            results[name] = main(arguments(folder, f"MODEL_DIR='{folder / name}'", *bindings))
        except Exception:  # noqa: BLE001 (the test of this layout shows it)
            results[name] = traceback.format_exc()
    return results


if __name__ == "__main__":
    # Two programs in flight may each hold threads that the other's collectives wait for.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    target = Path(sys.argv[1])
    (target / RESULTS).write_text(json.dumps(run_all(target, json.loads(sys.argv[2]))))
