"""Generation and scoring with a fixed-size key/value cache."""

from t5x_style.decoding.cache import KVCache, prepare
from t5x_style.decoding.generate import generate
from t5x_style.decoding.sampling import Sampling
from t5x_style.decoding.score import Scores, score

__all__ = ["KVCache", "Sampling", "Scores", "generate", "prepare", "score"]
