"""DPO on 8 virtual devices, its reference split like the policy: python kinds_devices.py FOLDER.

Prints {"losses": of the steps, "split": how many of the reference's arrays are split, "arrays": of all}.
"""

import json
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax

from t5x_style.losses.dpo import DPO
from t5x_style.mesh import MeshConfig
from t5x_style.training import check_run
from t5x_style.training.setup import set_up
from tests.training.test_kinds import OLD, pairs, run_of, trained

if __name__ == "__main__":
    # Two programs in flight may each hold threads that the other's collectives wait for.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    batch = pairs()
    mesh = MeshConfig(data=1, fsdp=4, tensor=2)
    run = run_of(Path(sys.argv[1]), batch, loss=DPO(beta=1.0), init_from=str(OLD), mesh=mesh, steps=3)
    losses = trained(run, batch)
    frozen = set_up(check_run.resolve(run)).frozen.values()
    split = sum(not leaf.sharding.is_fully_replicated for leaf in frozen)
    sys.stdout.write(json.dumps({"losses": losses, "split": split, "arrays": len(frozen)}) + "\n")
