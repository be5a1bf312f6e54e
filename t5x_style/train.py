"""Trains a model: python -m t5x_style.train --gin_file=gin/runs/quickstart_pretrain.gin --gin.MODEL_DIR="'out'".

The same command continues an interrupted run from its newest checkpoint. Exit codes: 0 done, 2 the input is wrong
(one line says what), 130 stopped by a signal with a checkpoint written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import logging

from t5x_style import command_line, config
from t5x_style.errors import UserError, run_main

if TYPE_CHECKING:
    from t5x_style.training.run import TrainRun


def _main(argv: Sequence[str]) -> int:
    parser = command_line.parser("t5x_style.train", __doc__)
    config.add_arguments(parser)
    parser.add_argument("--dry_run", action="store_true", help="show what the run would do, and do nothing")
    parser.add_argument(
        "--devices", type=int, help="with --dry_run: for so many devices (default: those of this machine)"
    )
    parser.add_argument("--coordinator", help="HOST:PORT of process 0 for several processes, or 'auto' (TPU, SLURM)")
    parser.add_argument("--num_processes", type=int, help="how many processes the run has")
    parser.add_argument("--process_id", type=int, help="which of them this is, from 0")
    arguments, bindings = config.parse_arguments(parser, argv)

    # The configuration is built and checked before jax touches a device.
    from t5x_style import model_dir
    from t5x_style.training.check_run import check_run
    from t5x_style.training.run import TrainRun

    loaded = config.load(TrainRun, arguments.gin_file, bindings)
    run: TrainRun = check_run(loaded.root, writes=not arguments.dry_run)

    from t5x_style.data import open_loader

    if arguments.dry_run:
        return _describe(run, arguments.devices, open_loader)
    if arguments.devices is not None:
        raise UserError("--devices goes with --dry_run; a run takes all devices that there are")
    from t5x_style.training import architecture, multihost, tokenizer
    from t5x_style.training.loop import train

    multihost.initialize(arguments.coordinator, arguments.num_processes, arguments.process_id)

    def noted() -> None:
        found = tokenizer.of_run(run)
        kept = {f"{model_dir.TOKENIZER}/{name}": text for name, text in (found.own_files() if found else {}).items()}
        settings = architecture.kept_settings(run.init_from)
        kept |= {f"{model_dir.HUGGINGFACE}/{name}": content for name, content in settings.items()}
        model_dir.create(run.model_dir, run.model, loaded.operative, loaded.full, kept)

    last = train(run, open_loader, noted)
    summary = ", ".join(
        f"{name} {last[name]:.4g}" for name in ("loss", "eval_loss", "tokens_per_second") if name in last
    )
    logging.info("%s: %d steps done. %s", run.model_dir, run.steps, summary)
    return 0


def _describe(run: TrainRun, devices: int | None, open_loader: Any) -> int:
    """Prints the resolved run as a tree."""
    from t5x_style.training import describe

    if devices is None:
        import jax

        devices = jax.device_count()
    elif devices < 1:
        raise UserError(f"--devices {devices} must be at least 1")
    loader = open_loader(run.data)
    try:
        tree = describe.describe(run, devices, loader.summary(), loader.epochs(run.steps))
    finally:
        loader.close()
    sys.stdout.write(describe.rendered(tree) + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
