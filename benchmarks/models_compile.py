"""Compile time of a training step by depth: scanned layers against unrolled ones.

    python benchmarks/models_compile.py            2, 8 and 32 layers of width 128
    python benchmarks/models_compile.py --depths 2 32

The scanned program does not grow with depth; the unrolled one does. No peer: torch eager compiles nothing.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import Execution, build
from t5x_style.models.presets.llama import llama


def compile_seconds(layers: int, scan: bool) -> float:
    """Tracing, lowering and compiling of loss and gradient, from an empty cache."""
    config = llama(1024, 128, layers, 4, 2, 384)
    graphdef, state = nnx.split(build(config, 0, execution=Execution(scan, "full")))
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, config.vocab_size, (2, 256)))

    def loss(state, tokens):
        model = nnx.merge(graphdef, state)
        return cross_entropy(model.head, model(tokens), tokens, jnp.ones(tokens.shape))[0]

    start = time.perf_counter()
    jax.jit(jax.value_and_grad(loss)).lower(state, tokens).compile()
    return time.perf_counter() - start


def main() -> None:
    """Prints seconds by depth and the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8, 32])
    depths = sorted(parser.parse_args().depths)
    compile_seconds(1, True)  # what only the first compilation pays
    seconds = {scan: [compile_seconds(depth, scan) for depth in depths] for scan in (True, False)}
    for scan, times in seconds.items():
        row = ", ".join(f"{depth} layers {value:.2f} s" for depth, value in zip(depths, times))
        print(f"{'scanned' if scan else 'unrolled'}: {row}")
    growth = {scan: times[-1] / times[0] for scan, times in seconds.items()}
    print(
        f"ratio: {seconds[False][-1] / seconds[True][-1]:.2f}x (compile time of {depths[-1]} layers, scanned against "
        f"unrolled; ours {seconds[True][-1]:.2f} s, {growth[True]:.2f} times that of {depths[0]} layers; "
        f"peer {seconds[False][-1]:.2f} s, {growth[False]:.2f} times; median of 1)"
    )


if __name__ == "__main__":
    main()
