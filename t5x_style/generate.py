"""Continues texts: python -m t5x_style.generate --model MODEL_DIR --prompt "def add(" [--prompt ...] [--input FILE].

Prints each prompt's continuation, separated by a line of dashes where there are several; with --json one object a
line. Greedy unless --temperature is given. Exit codes: 0 done, 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from t5x_style.errors import UserError, run_main

SEPARATOR = "-" * 8


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t5x_style.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, metavar="MODEL_DIR")
    parser.add_argument("--step", type=int, help="checkpoint (default: the newest)")
    parser.add_argument("--prompt", action="append", default=[], help="text to continue, repeatable")
    parser.add_argument("--input", metavar="FILE", help="UTF-8 file with one prompt a line; - reads standard input")
    parser.add_argument("--max_new_tokens", type=int, default=64, help="(default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default)")
    parser.add_argument("--top_k", type=int, default=0, help="sample among so many tokens; 0: all (default)")
    parser.add_argument("--top_p", type=float, default=1.0, help="sample among the likeliest of this total probability")
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
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--input {file!r} cannot be read ({error}); give a UTF-8 text file") from error
        found += [line for line in text.splitlines() if line.strip()]
    if not found:
        raise UserError("nothing to continue; give --prompt TEXT or --input FILE")
    return found


def _main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    prompts = read_prompts(arguments.prompt, arguments.input)
    if arguments.temperature == 0 and (arguments.top_k or arguments.top_p != 1.0):
        raise UserError("--top_k and --top_p choose among random draws; give --temperature, such as 0.8, too")

    from t5x_style import decoding, model_dir

    sampling = decoding.Sampling(temperature=arguments.temperature, top_k=arguments.top_k, top_p=arguments.top_p)
    loaded = model_dir.load_model(arguments.model, arguments.step)
    vocabulary = loaded.vocabulary
    start = vocabulary.pad_id if vocabulary.bos_id is None else vocabulary.bos_id
    answers = decoding.generate(
        loaded.model,
        [[start, *tokens] for tokens in vocabulary.encode_batch(prompts)],
        arguments.max_new_tokens,
        eos_id=vocabulary.eos_id,
        sampling=sampling,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    for index, (prompt, tokens) in enumerate(zip(prompts, answers)):
        text = vocabulary.decode(tokens)
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
