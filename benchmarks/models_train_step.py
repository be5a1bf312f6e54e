"""Training step of one LLaMA: ours against transformers on torch eager, same sizes, batch, fp32, AdamW.

    python benchmarks/models_train_step.py                  a 34M model, 2 x 512 tokens
    python benchmarks/models_train_step.py --size quickstart  the quickstart's model, 16 x 256 tokens
    python benchmarks/models_train_step.py --variants        ours alone: scan or not, remat, chunk sizes

Both take turns in one process. Without torch and transformers only ours is measured. On a machine that others use,
compare the cpu figures (processor time / cores), which waiting does not enter. GLIBC_TUNABLES=glibc.malloc.hugetlb=1
spares XLA's buffers their page faults (a fifth of a small model's step).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import DecoderConfig, build, parameter_count
from t5x_style.models.presets.llama import llama

# Read when torch is imported, below: else its idle threads spin through our turn (621 instead of 465 ms).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
SIZES = {
    "34m": (llama(8192, 512, 8, 8, 8, 1408, remat="none", scan=False), 2, 512),
    "quickstart": (llama(4096, 128, 4, 4, 2, 384, tied_embeddings=True, remat="none", scan=False), 16, 256),
}


def ours(config: DecoderConfig, tokens: np.ndarray, chunk_size: int = 512) -> Callable[[], None]:
    """A function that makes one training step and waits for it."""
    graphdef, state = nnx.split(build(config, 0))
    optimizer = optax.adamw(1e-3)
    inputs, targets = jnp.asarray(tokens), jnp.roll(jnp.asarray(tokens), -1, axis=1)
    weights = jnp.ones(tokens.shape).at[:, -1].set(0)

    def step(state, moments):
        def loss(state):
            model = nnx.merge(graphdef, state)
            total, count, _ = cross_entropy(model.head, model(inputs), targets, weights, chunk_size=chunk_size)
            return total / count

        value, gradient = jax.value_and_grad(loss)(state)
        updates, moments = optimizer.update(gradient, moments, state)
        return optax.apply_updates(state, updates), moments, value

    compiled = jax.jit(step, donate_argnums=(0, 1))
    holder = [state, optimizer.init(state)]

    def run() -> None:
        holder[0], holder[1], value = compiled(*holder)
        value.block_until_ready()

    return run


def peer(config: DecoderConfig, tokens: np.ndarray) -> Callable[[], None]:
    """The same step in transformers and torch, eager."""
    import torch
    import transformers

    layer = config.layers[0]
    torch.set_num_threads(os.cpu_count() or 1)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.embed_dim,
            intermediate_size=layer.mlp.hidden,
            num_hidden_layers=len(config.layers),
            num_attention_heads=layer.attention.heads,
            num_key_value_heads=layer.attention.kv_heads,
            tie_word_embeddings=config.tied_embeddings,
            use_cache=False,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = torch.tensor(tokens)

    def run() -> None:
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()

    return run


def measure(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median (wall seconds, processor seconds / cores) of each, taking turns; the first turn warms up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if turn:
                times[name].append((time.perf_counter() - wall, (time.process_time() - cpu) / (os.cpu_count() or 1)))
    return {name: (statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for name, t in times.items()}


def main() -> None:
    """Prints both step times and the ratio line, or our variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="34m")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--variants", action="store_true")
    arguments = parser.parse_args()
    config, batch, length = SIZES[arguments.size]
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (batch, length))
    print(f"{parameter_count(config) / 1e6:.1f}M parameters, batch {batch} x {length}, fp32, {os.cpu_count()} cores")
    runs: dict[str, Callable[[], None]] = {"ours": ours(config, tokens)}
    if arguments.variants:
        for scan, remat in ((True, "none"), (True, "full"), (False, "full"), (False, "dots")):
            changed = dataclasses.replace(config, scan=scan, remat=remat)
            runs[f"scan={scan} remat={remat}"] = ours(changed, tokens)
        for size in (128, 1024, 4096):
            runs[f"chunk_size={size}"] = ours(config, tokens, size)
    else:
        try:
            runs["peer"] = peer(config, tokens)
        except ImportError as error:
            print(f"no peer: {error}; install torch and transformers (make test-parity does)")
    results = measure(runs, arguments.repeats)
    count = batch * length
    for name, (wall, cpu) in results.items():
        print(f"{name:28s} {wall * 1e3:8.0f} ms  {count / wall:8.0f} tokens/s   cpu {cpu * 1e3:8.0f} ms")
    if "peer" in results:
        mine, theirs = count / results["ours"][0], count / results["peer"][0]
        what = f"LLaMA {arguments.size} training step against transformers torch eager"
        print(
            f"ratio: {mine / theirs:.2f}x ({what}; ours {mine:.0f} tokens/s; peer {theirs:.0f} tokens/s; "
            f"median of {arguments.repeats})"
        )


if __name__ == "__main__":
    main()
