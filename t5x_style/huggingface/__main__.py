"""Models in and out of Hugging Face folders.

python -m t5x_style.huggingface import SRC DST    a Hugging Face folder becomes a MODEL_DIR
python -m t5x_style.huggingface export SRC DST    a MODEL_DIR becomes a folder that transformers opens

Exit codes: 0 done, 2 the input is wrong (one line says what), 130 interrupted; DST is whole or not there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import logging

from t5x_style import command_line
from t5x_style.errors import UserError, run_main

if TYPE_CHECKING:
    from t5x_style.huggingface.import_model import Written

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("t5x_style.huggingface", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="a Hugging Face folder becomes a MODEL_DIR")
    importing.add_argument("source", metavar="SRC", help="folder with config.json and safetensors")
    importing.add_argument("target", metavar="DST", help="the MODEL_DIR to make")
    importing.add_argument(
        "--skip_tokenizer_check", action="store_true", help="copy the tokenizer unread, whatever its size"
    )
    exporting = commands.add_parser("export", help="a MODEL_DIR becomes a folder that transformers opens")
    exporting.add_argument("source", metavar="SRC", help="the MODEL_DIR")
    exporting.add_argument("target", metavar="DST", help="the folder to make")
    exporting.add_argument("--model_type", help="their name of the architecture; found by itself where it is left out")
    exporting.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: as in the checkpoint")
    exporting.add_argument("--max_shard_size", default="5GB", help="largest file, such as 500MB (default 5GB)")
    exporting.add_argument("--step", type=int, help="the checkpoint's step; default: the newest")
    exporting.add_argument("--average", help="one of the run's extras that keeps an average, such as ema")
    return parser


def size(text: str) -> int:
    """Bytes of a size. Example: "1.5GB" -> 1500000000. UserError for anything else or less than one byte."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B)?", text.strip(), re.IGNORECASE)
    number = int(float(found[1]) * _UNITS[(found[2] or "").upper()]) if found else 0
    if number < 1:
        raise UserError(f"--max_shard_size {text!r} is no size; give one such as 500MB or 5GB")
    return number


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # weights go from file to file; an accelerator stays free
    written: Written
    if arguments.command == "import":
        from t5x_style.huggingface.import_model import import_model

        written = import_model(arguments.source, arguments.target, arguments.skip_tokenizer_check)
    else:
        limit = size(arguments.max_shard_size)
        from t5x_style.huggingface.export_model import export_model

        written = export_model(
            arguments.source,
            arguments.target,
            model_type=arguments.model_type,
            dtype=arguments.dtype,
            max_shard_size=limit,
            step=arguments.step,
            average=arguments.average,
        )
    for note in written.notes:
        logging.warning("%s", note)
    sys.stdout.write(
        f"{written.path}: {written.model_type}, {written.parameters:,} parameters, {written.nbytes:,} bytes of "
        f"weights in {written.seconds:.1f} s\n"
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
