"""Continues texts: python -m t5x_style.generate --model FOLDER --prompt "def add(" [--prompt ...] [--input FILE].

FOLDER is a MODEL_DIR or a Hugging Face folder; an encoder-decoder answers its prompts. Prints the continuations,
separated by a line of dashes where there are several; with --json one object a line. Options that are left out are as
the folder's generation_config.json says, or else greedy. Exit codes: 0 done, 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from t5x_style import command_line, files
from t5x_style.errors import UserError, run_main

SEPARATOR = "-" * 8


def _parser() -> argparse.ArgumentParser:
    parser = command_line.parser("t5x_style.generate", __doc__)
    parser.add_argument("--model", required=True, metavar="FOLDER", help="MODEL_DIR or Hugging Face folder")
    parser.add_argument("--step", type=int, help="checkpoint of a MODEL_DIR (default: the newest)")
    parser.add_argument("--average", help="one of the run's extras that keeps an average, such as ema")
    parser.add_argument("--prompt", action="append", default=[], help="text to continue or to answer, repeatable")
    parser.add_argument("--input", metavar="FILE", help="UTF-8 file with one prompt a line; - reads standard input")
    parser.add_argument("--max_new_tokens", type=int, help="(default: as the folder says, or 64)")
    parser.add_argument("--min_new_tokens", type=int, help="no end before so many")
    parser.add_argument("--temperature", type=float, help="0 takes the likeliest token")
    parser.add_argument("--top_k", type=int, help="sample among so many tokens; 0: all")
    parser.add_argument("--top_p", type=float, help="sample among the likeliest of this total probability")
    parser.add_argument("--min_p", type=float, help="sample among those so many times as likely as the likeliest")
    parser.add_argument("--repetition_penalty", type=float, help="above 1: ids that are there already get less likely")
    parser.add_argument("--no_repeat_ngram", type=int, help="no run of so many ids twice; 0: any")
    parser.add_argument("--num_beams", type=int, help="beam search with so many hypotheses; 1: none")
    parser.add_argument("--length_penalty", type=float, help="of beam search; above 0 prefers longer answers")
    parser.add_argument("--stop", action="append", help="text that ends an answer and is cut off, repeatable")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="prompts at a time (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help='one {"prompt", "text", "tokens"} a line')
    return parser


def read_prompts(prompts: Sequence[str], file: str | None) -> list[str]:
    """The prompts given and those of the file, in this order; empty lines of the file are left out.

    Raises:
      UserError: no prompt, or no readable file.
    """
    found = list(prompts)
    if file is not None:
        try:
            text = sys.stdin.read() if file == "-" else files.read_text(file)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--input {file!r} cannot be read ({error}); give a UTF-8 text file") from error
        found += [line for line in text.splitlines() if line.strip()]
    if not found:
        raise UserError("nothing to continue; give --prompt TEXT or --input FILE")
    return found


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    prompts = read_prompts(arguments.prompt, arguments.input)

    import t5x_style
    from t5x_style.decoding import cut_at
    from t5x_style.huggingface.generation_config import OPTIONS

    loaded = t5x_style.load_model(arguments.model, arguments.step, average=arguments.average)
    options = {name: getattr(arguments, name) for name in OPTIONS if hasattr(arguments, name)}
    options |= {"seed": arguments.seed, "batch_size": arguments.batch_size}
    stop = loaded.generation_defaults.stop if arguments.stop is None else arguments.stop
    answers: list[Any] = loaded.generate(loaded.encode_prompts(prompts), **options)
    for index, (prompt, tokens) in enumerate(zip(prompts, answers)):
        text = cut_at(loaded.tokenizer.decode(tokens), stop)
        if arguments.json:
            line = json.dumps({"prompt": prompt, "text": text, "tokens": tokens}, ensure_ascii=False)
            sys.stdout.write(line + "\n")
        else:
            sys.stdout.write((f"{SEPARATOR}\n" if index else "") + text + "\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(_main, argv)


if __name__ == "__main__":
    raise SystemExit(main())
