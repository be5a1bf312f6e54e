"""Fits the router of `auto` (beam_pipelines/web/extraction/extract_auto.py) and prints the lines to put there.

    python -m benchmarks.web_extraction_fit [--data FOLDER]

The word F1 of body minus that of main is fitted by ridge regression on standardised signals. The F1 of the choice is
cross-validated: ten folds that never share a site, four shufflings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from beam_pipelines.web.extraction import extract_auto
from benchmarks.web_extraction_pages import DATA, Readings, read_pages, readings

FOLDS, SHUFFLINGS = 10, 4
# Strength of the penalty, in pages: small beside the 558, so that it only steadies signals that say the same. F1 moves
# by less than .001 between 1 and 60.
PENALTY = 20.0


class Router(NamedTuple):
    """`intercept + signals @ coefficients` is the expected F1 of body minus that of main."""

    intercept: float
    coefficients: np.ndarray  # float64[signals]

    def gain(self, signals: np.ndarray) -> np.ndarray:
        """float64[pages] of float64[pages, signals]."""
        return self.intercept + signals @ self.coefficients


def fit(signals: np.ndarray, gain: np.ndarray, penalty: float = PENALTY) -> Router:
    """Ridge regression of float64[pages] on float64[pages, signals]; the intercept is not penalised."""
    mean, deviation = signals.mean(0), np.maximum(signals.std(0), 1e-9)
    scaled = (signals - mean) / deviation
    gram = scaled.T @ scaled + penalty * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled.T @ (gain - gain.mean())) / deviation
    return Router(float(gain.mean() - mean @ weights), weights)


def folds(sites: Sequence[str], count: int, seed: int) -> np.ndarray:
    """The fold of every page, int64[pages]: all pages of a site in one, sites drawn at random."""
    names = sorted(set(sites))
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {name: int(place) % count for name, place in zip(names, order, strict=True)}
    return np.array([fold_of[name] for name in sites])


def held_out_gain(found: Readings, seed: int, count: int = FOLDS) -> np.ndarray:
    """Expected gain of every page by a router fitted on other sites' pages, float64[pages]."""
    gain, fold = found.f1[:, 1] - found.f1[:, 0], folds(found.sites, count, seed)
    expected = np.zeros(len(gain))
    for number in range(count):
        held_out = fold == number
        expected[held_out] = fit(found.signals[~held_out], gain[~held_out]).gain(found.signals[held_out])
    return expected


def fast_choice(found: Readings, gain: np.ndarray) -> np.ndarray:
    """F1 of the reading that the router chooses, float64[pages]."""
    return np.where(gain > 0, found.f1[:, 1], found.f1[:, 0])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the coefficients and what they are worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args(argv)
    found = readings(read_pages(arguments.data), slow=False)
    router = fit(found.signals, found.f1[:, 1] - found.f1[:, 0])
    main_f1, body_f1 = found.f1[:, 0].mean(), found.f1[:, 1].mean()
    held_out = [fast_choice(found, held_out_gain(found, seed)).mean() for seed in range(SHUFFLINGS)]
    print(
        f"{len(found.f1)} pages: main {main_f1:.4f}, body {body_f1:.4f}, the better {found.f1[:, :2].max(1).mean():.4f}"
    )
    print(f"chosen, in sample {fast_choice(found, router.gain(found.signals)).mean():.4f}")
    print(f"chosen, held out {np.mean(held_out):.4f} ({', '.join(f'{value:.4f}' for value in held_out)})")
    print(f"\nINTERCEPT = {router.intercept:.4f}")
    pairs = zip(extract_auto.Signals._fields, router.coefficients, strict=True)
    print(f"COEFFICIENTS = Signals({', '.join(f'{name}={value:.4f}' for name, value in pairs)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
