"""The JSON files of a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError


def read_json(path: Path) -> Any:
    """A JSON file of a folder; UserError where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); copy the file again") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); change its permissions or copy it again") from error
