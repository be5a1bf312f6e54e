"""Speed and memory as a user judges them: tokens a second, model FLOP utilisation, bytes in use."""

from __future__ import annotations

import resource
from pathlib import Path

import jax

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
