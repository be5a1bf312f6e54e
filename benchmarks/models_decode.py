"""Greedy decoding of one LLaMA: ours against transformers' generate with its cache, same sizes, fp32.

    python benchmarks/models_decode.py                 batch 8
    python benchmarks/models_decode.py --batch 1

Both take turns in one process, prompts of 32 tokens, 64 new ones. Without torch and transformers only ours is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from t5x_style.decoding import generate, prepare
from t5x_style.models import DecoderConfig, build, parameter_count
from t5x_style.models.presets.llama import llama

CONFIG = llama(8192, 512, 8, 8, 8, 1408)
PROMPT, NEW = 32, 64


def ours(config: DecoderConfig, prompts: np.ndarray) -> Callable[[], None]:
    """A function that continues all prompts by NEW tokens."""
    model = prepare(build(config, 0))
    rows = prompts.tolist()
    return lambda: check(generate(model, rows, NEW))


def check(rows: list[list[int]]) -> None:
    """Both sides must make NEW tokens a row, or their rates are not comparable."""
    assert all(len(row) == NEW for row in rows)


def peer(config: DecoderConfig, prompts: np.ndarray) -> Callable[[], None]:
    """The same in transformers and torch."""
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
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    batch = torch.tensor(prompts)
    mask = torch.ones_like(batch)

    def run() -> None:
        with torch.no_grad():
            rows = model.generate(batch, attention_mask=mask, max_new_tokens=NEW, do_sample=False)
        check(rows[:, PROMPT:].tolist())

    return run


def main() -> None:
    """Prints both rates and the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    prompts = np.random.default_rng(0).integers(1, CONFIG.vocab_size, (arguments.batch, PROMPT))
    runs: dict[str, Callable[[], None]] = {"ours": ours(CONFIG, prompts)}
    try:
        runs["peer"] = peer(CONFIG, prompts)
    except ImportError as error:
        print(f"no peer: {error}; install torch and transformers (make test-parity does)")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(arguments.repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn compiles and warms up
                times[name].append(time.perf_counter() - start)
    rates = {name: arguments.batch * NEW / statistics.median(values) for name, values in times.items()}
    print(f"{parameter_count(CONFIG) / 1e6:.1f}M parameters, batch {arguments.batch}, {PROMPT} + {NEW} tokens, fp32")
    for name, rate in rates.items():
        print(f"{name:8s} {rate:8.1f} tokens/s")
    if "peer" in rates:
        print(
            f"ratio: {rates['ours'] / rates['peer']:.2f}x (greedy decoding, batch {arguments.batch}, against "
            f"transformers generate; ours {rates['ours']:.0f} tokens/s; peer {rates['peer']:.0f} tokens/s; "
            f"median of {arguments.repeats})"
        )


if __name__ == "__main__":
    main()
