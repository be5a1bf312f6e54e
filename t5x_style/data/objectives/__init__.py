"""Objectives: how an example becomes packable segments. One file each; a new one subclasses `Objective`."""

from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.objective import FeatureLengths, Objective, Pieces
from t5x_style.data.objectives.prefix_lm import PrefixLM

__all__ = ["CausalLM", "FeatureLengths", "Objective", "Pieces", "PrefixLM"]
