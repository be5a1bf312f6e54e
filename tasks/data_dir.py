"""Where the tasks find their data: the folder in T5X_STYLE_DATA_DIR, looked up when it is used."""

from __future__ import annotations

import os

from t5x_style.errors import UserError

VARIABLE = "T5X_STYLE_DATA_DIR"


def is_absolute(path: str) -> bool:
    """True for local absolute paths and for `scheme://` addresses (gs://, s3://)."""
    return "://" in path or os.path.isabs(path)


def resolve(path: str) -> str:
    """`path` below the data folder; absolute paths and cloud addresses stay as they are.

    Raises:
      UserError: the path is relative and T5X_STYLE_DATA_DIR is not set.
    """
    if is_absolute(path):
        return path
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        raise UserError(
            f"{path}: {VARIABLE} is not set, so the tasks do not know where their data is; "
            f"set it to the quickstart's --output folder, for example {VARIABLE}=~/t5x_style_data"
        )
    return os.path.join(os.path.expanduser(folder), path)
