"""Speed and memory as a user judges them: tokens a second, model FLOP utilisation, bytes in use."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path

import jax

from t5x_style.data.data_config import DataConfig
from t5x_style.models import flops_by_side
from t5x_style.training.run_models import RunModel

# Dense bf16 peak FLOP/s of one device, from the makers' data sheets.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}


def peak_flops() -> float | None:
    """Peak FLOP/s of all devices of the run together; None where the device kind is not in the table (CPUs)."""
    kind = jax.devices()[0].device_kind
    for name, peak in sorted(PEAK_FLOPS.items(), key=lambda item: -len(item[0])):
        if kind.lower().startswith(name.lower()):
            return peak * jax.device_count()
    return None


def memory_bytes() -> int:
    """Bytes in use: the fullest local device's, or on CPU this process's resident memory."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    known = [entry["bytes_in_use"] for entry in stats if entry and "bytes_in_use" in entry]
    if known:
        return max(known)
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Speed:
    """Tokens and seconds since the last report.

    Args:
      policy: the model that trains; its operations are counted where all of it trains, since a frozen part takes fewer.
      data: the training data.
    """

    def __init__(self, policy: RunModel, data: DataConfig):
        self._peak = peak_flops()
        whole = len(policy.trained) == len(policy.shapes)
        self._flops = flops_by_side(policy.config, data.lengths) if whole and self._peak else {}
        self.restart(0)

    def restart(self, step: int) -> None:
        """Begins anew after `step`."""
        self._from, self._step = time.monotonic(), step
        self._tokens: dict[str, int] = {}

    def exclude(self, seconds: float) -> None:
        """Takes time out that was not spent in training."""
        self._from += seconds

    def count(self, tokens: Mapping[str, int]) -> None:
        """Adds the tokens of a step on this process, by side."""
        for side, number in tokens.items():
            self._tokens[side] = self._tokens.get(side, 0) + number

    def values(self, step: int) -> dict[str, float]:
        """tokens_per_second (of all sides and processes), seconds_per_step, mfu where it is known, memory_gib.

        MFU: each side's tokens times what one of them takes (models.flops_by_side), over the devices' peak.
        """
        found = {"memory_gib": memory_bytes() / 2**30}
        elapsed, steps = time.monotonic() - self._from, step - self._step
        if steps > 0 and elapsed > 0:
            rates = {side: number * jax.process_count() / elapsed for side, number in self._tokens.items()}
            found["tokens_per_second"] = sum(rates.values())
            found["seconds_per_step"] = elapsed / steps
            if self._peak and self._flops:
                used = sum(rate * self._flops.get(side, 0.0) for side, rate in rates.items())
                found["mfu"] = used / self._peak
        return found
