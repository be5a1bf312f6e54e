"""Switch Transformer: T5 with experts in every second layer, one expert a token (Fedus et al. 2022).

Sizes as released with T5's plain ReLU blocks: table 9's Base and Large (7.4 and 26.3 billion parameters with 128
experts) and C, whose every layer has experts. An expert takes 64 tokens of a document and drops what comes later.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets import t5
from t5x_style.models.presets.sizes import Options, choose

CAPACITY = 64


class Shape(NamedTuple):
    """A published size; every `step`-th layer of encoder and decoder has experts."""

    dense: t5.Shape
    experts: int
    step: int = 2


SIZES = {
    "tiny": Shape(t5.Shape(32, 8, 64, 2, 4, 1024), 4),
    **{f"base_{count}": Shape(t5.T5["base"], count) for count in (8, 16, 32, 64, 128, 256)},
    "large_128": Shape(t5.T5["large"], 128),
    "c_2048": Shape(t5.Shape(2080, 64, 6144, 15, 32), 2048, step=1),
}


def switch(
    size: str = "base_8",
    vocab_size: int | None = None,
    capacity_factor: float | None = None,
    **options: Unpack[Options],
) -> parts.EncoderDecoderConfig:
    """Switch Transformer; `size` is one of SIZES. No dropout: the paper has it in fine-tuning alone (section 2.4).

    Args:
      vocab_size: None is the published one.
      capacity_factor: room by the length of a row instead, which documents packed into it share; its buffers split
        over experts on several devices (1.25 in the paper's training). None: 64 tokens of each document.

    Raises:
      UserError: there is no such size.
    """
    shape = choose(SIZES, size, "switch")
    dense = t5.encoder_decoder(shape.dense, vocab_size, "relu", gated=False, tied=True, options=options)
    room = (
        {"capacity": CAPACITY, "per_document": True}
        if capacity_factor is None
        else {"capacity_factor": capacity_factor}
    )
    mlp = dense.encoder.layers[0].mlp
    assert isinstance(mlp, parts.MlpSpec)
    moe = parts.MoeSpec(shape.experts, 1, mlp, mode="capacity", normalize=False, balance_weight=0.001, z_weight=0.001)
    return sparse(dense, dataclasses.replace(moe, **room), shape.step, shape.step)


def sparse(
    dense: parts.EncoderDecoderConfig, moe: parts.MoeSpec, encoder_step: int, decoder_step: int
) -> parts.EncoderDecoderConfig:
    """The same model with experts in every so many layers of encoder and decoder."""

    def trunk(config: parts.TransformerConfig, step: int) -> tuple[parts.LayerGroup, ...]:
        layer = config.layers[0]
        return segments(layer, dataclasses.replace(layer, mlp=moe), len(config.layers), step)

    return dataclasses.replace(
        dense,
        encoder=dataclasses.replace(dense.encoder, segments=trunk(dense.encoder, encoder_step)),
        decoder=dataclasses.replace(dense.decoder, segments=trunk(dense.decoder, decoder_step)),
    )


def with_experts(layers: int, step: int) -> list[bool]:
    """Which layers have experts: the second of every `step`; step 1: all, 0: none. Example, 5 and 3: 0 1 0 0 1."""
    return [step == 1 or (step > 1 and number % step == 1) for number in range(layers)]


def segments(dense: parts.LayerSpec, experts: parts.LayerSpec, layers: int, step: int) -> tuple[parts.LayerGroup, ...]:
    """A trunk with experts where `with_experts` has them; steps that mean the same give the same segments.

    Worked example, D dense, E experts: 5 layers, step 2: (D E) x 2, (D) x 1; 5 layers, step 3: (D E D), (D E).
    """
    kinds = with_experts(layers, step)
    if not any(kinds):
        return (parts.LayerGroup((dense,), layers),)
    step = next(smaller for smaller in range(1, layers + 1) if with_experts(layers, smaller) == kinds)
    pattern = tuple(experts if there else dense for there in with_experts(step, step))
    found = [parts.LayerGroup(pattern, layers // step)]
    if layers % step:
        found.append(parts.LayerGroup(pattern[: layers % step]))
    return tuple(found)
