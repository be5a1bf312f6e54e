"""Objectives: how examples become packable pieces. One file each; a new one subclasses `Objective`."""

from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.data.objectives.prefix_lm import PrefixLM

__all__ = ["CausalLM", "Example", "Objective", "Piece", "PrefixLM"]
