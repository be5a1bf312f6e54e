"""Trains one fastText model in a process of its own: python fit_fasttext.py, the settings as JSON on standard input.

Imports nothing of the project, since it is run by its path. See LEAST_VECTOR_BYTES in classifier.py for why.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Trains, quantises if asked, and writes the model; exit code 3 where fastText stops, its message on stderr."""
    import fasttext

    settings = json.load(sys.stdin)
    output, quantize = settings.pop("output"), settings.pop("quantize")
    try:
        model = fasttext.train_supervised(verbose=0, **settings)
    except RuntimeError as error:
        sys.stderr.write(str(error))
        return 3
    if quantize:
        model.quantize(input=settings["input"], thread=settings["thread"], verbose=0)
    model.save_model(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
