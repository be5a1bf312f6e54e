"""How good a binary score is: area under the curve, precision and recall at thresholds, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half (Mann & Whitney 1947).

    Example: scores [.9, .5, .5, .1] of [positive, positive, negative, negative] -> (2 + 1.5) / 4 = .875. NaN where
    one class is empty.
    """
    _, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[places]  # 1 is the lowest; ties share their mean rank
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def at_thresholds(scores: np.ndarray, positive: np.ndarray, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """What keeping scores at or above each threshold gives.

    Returns:
      [{"threshold", "precision", "recall", "negatives_kept"}]; the last is the share of negatives that pass.
      Precision is None where nothing passes.
    """
    rows = []
    for threshold in thresholds:
        kept = scores >= threshold
        right = int((kept & positive).sum())
        rows.append(
            {
                "threshold": threshold,
                "precision": _ratio(right, int(kept.sum())),
                "recall": _ratio(right, int(positive.sum())),
                "negatives_kept": _ratio(int((kept & ~positive).sum()), int((~positive).sum())),
            }
        )
    return rows


def calibration(scores: np.ndarray, positive: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Mean score against share of positives in equal-width bins, and their mean distance (expected calibration error).

    Example: a bin with scores around .75 of which .70 are positive adds .05 times its share of all scores.
    """
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    rows = []
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            mean, share = float(scores[inside].mean()), float(positive[inside].mean())
            rows.append({"count": int(inside.sum()), "mean_score": round(mean, 6), "positives": round(share, 6)})
            error += abs(mean - share) * float(inside.mean())
    return {"bins": rows, "expected_error": round(error, 6)}


def _ratio(part: int, whole: int) -> Any:
    return round(part / whole, 6) if whole else None
