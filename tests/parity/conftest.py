"""Torch on one thread: its models are tiny here, and two processes share the machine."""

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
