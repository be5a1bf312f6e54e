"""Objectives: how examples become packable pieces. One file each; a new one subclasses `Objective`."""

from t5x_style.data.objectives.blank_infilling import BlankInfilling
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.data.objectives.permutation_lm import PermutationLM
from t5x_style.data.objectives.preference_pairs import PreferencePairs
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.seq2seq import Seq2Seq
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.ul2 import UL2, Denoiser

__all__ = [
    "UL2",
    "BlankInfilling",
    "CausalLM",
    "Denoiser",
    "Example",
    "MaskedLM",
    "NextSentence",
    "Objective",
    "PermutationLM",
    "Piece",
    "PreferencePairs",
    "PrefixLM",
    "Seq2Seq",
    "SpanCorruption",
]
