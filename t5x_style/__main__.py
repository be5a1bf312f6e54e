"""python -m t5x_style COMMAND: the console command of an environment that has no script folder on its PATH."""

from __future__ import annotations

from t5x_style.cli import main

if __name__ == "__main__":
    raise SystemExit(main(program="python -m t5x_style"))
