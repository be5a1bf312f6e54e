"""Generation and scoring with a fixed-size cache: decoders, encoder-decoders, models with a state of their own."""

from t5x_style.decoding.beam import BeamSearch
from t5x_style.decoding.buckets import unpadded
from t5x_style.decoding.cache import KVCache
from t5x_style.decoding.generate import generate
from t5x_style.decoding.prepare import prepare
from t5x_style.decoding.sampling import Sampling
from t5x_style.decoding.score import Scores, score
from t5x_style.decoding.stopping import cut_at

__all__ = ["BeamSearch", "KVCache", "Sampling", "Scores", "cut_at", "generate", "prepare", "score", "unpadded"]
