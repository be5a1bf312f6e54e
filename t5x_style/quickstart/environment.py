"""Environment variables of the stages' processes; what the caller's environment says comes first."""

from __future__ import annotations

DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Large arrays on huge pages, which spares page faults (docs/performance.md).
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
# Training also keeps its memory between steps instead of returning it to the system: 11,000 instead of 8,900 tokens/s
# for steps of this size (benchmarks/models_train_step.py --size quickstart).
TRAINING = {
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}" for name in ("hugetlb=1", "mmap_max=0", "trim_threshold=68719476736", "arena_max=1")
    )
}
