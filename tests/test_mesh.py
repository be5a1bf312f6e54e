"""Sharding rules on paper, and on eight virtual devices in a process of their own."""

import json
import subprocess
import sys
import textwrap

import pytest
from jax.sharding import PartitionSpec as P

from t5x_style import mesh
from t5x_style.errors import UserError

SIZES = {"fsdp": 4, "tensor": 2, "data": 1}
RULES = (("vocab", "tensor"), ("vocab", "fsdp"), ("embed", "fsdp"))


@pytest.mark.parametrize(
    ("shape", "axes", "spec", "replicated"),
    [
        ((4096, 128), ("vocab", "embed"), P("tensor", "fsdp"), ()),
        ((4095, 128), ("vocab", "embed"), P(None, "fsdp"), ("vocab",)),
        ((128, 128), ("embed", "embed"), P("fsdp"), ("embed",)),  # fsdp is used once
        ((6, 128), ("vocab", "embed"), P("tensor", "fsdp"), ()),
        ((7, 7), ("vocab", "embed"), P(), ("vocab", "embed")),
        ((128,), ("unknown",), P(), ()),
        ((), (), P(), ()),
    ],
)
def test_resolve(shape, axes, spec, replicated):
    assert mesh.resolve(shape, axes, RULES, SIZES) == (spec, replicated)


def test_resolve_joint_axes():
    rules = (("act_batch", ("data", "fsdp")),)
    assert mesh.resolve((8,), ("act_batch",), rules, {"data": 2, "fsdp": 2})[0] == P(("data", "fsdp"))
    assert mesh.resolve((6,), ("act_batch",), rules, {"data": 2, "fsdp": 2}) == (P(), ("act_batch",))
    assert mesh.resolve((6,), ("act_batch",), rules, {"data": 1, "fsdp": 2})[0] == P("fsdp")
    # inside shard_map, manual axes are not named again
    assert mesh.resolve((8,), ("act_batch",), rules, {"data": 2, "fsdp": 2}, frozenset({"data"}))[0] == P()


def test_wrong_configurations():
    with pytest.raises(UserError, match="at most one -1"):
        mesh.MeshConfig(data=-1, fsdp=-1)
    with pytest.raises(UserError, match="positive"):
        mesh.MeshConfig(data=0)
    with pytest.raises(UserError, match="zero_stage 4 does not exist"):
        mesh.MeshConfig(zero_stage=4)
    with pytest.raises(UserError, match="both zero_stage = 1 and tables"):
        mesh.MeshConfig(zero_stage=1, tables=mesh.Tables())
    with pytest.raises(UserError, match="names mesh axis 'tensr'"):
        mesh.Tables(parameters=(("mlp", "tensr"),))
    with pytest.raises(UserError, match=r"needs 3 devices|needs a multiple of 3 devices"):
        mesh.make_mesh(mesh.MeshConfig(data=3))


def test_tables_are_the_stages_or_ones_own():
    assert mesh.MeshConfig().resolved_tables == mesh.zero(3) == mesh.Tables()
    assert mesh.MeshConfig(zero_stage=1).resolved_tables == mesh.zero(1)
    own = mesh.Tables(optimizer=())
    assert mesh.MeshConfig(tables=own).resolved_tables == own


def test_constrain_without_a_mesh_is_the_identity():
    import jax.numpy as jnp

    array = jnp.ones((2, 3))
    assert mesh.constrain(array, ("act_batch", "act_length")) is array
    assert mesh.map_tokens(lambda whole, own: (whole, own), "all", array) == ("all", array)


def test_eight_devices():
    code = textwrap.dedent("""
        import json, jax, jax.numpy as jnp
        from t5x_style import mesh
        out = {}
        config = mesh.MeshConfig(data=-1, fsdp=2, tensor=2)
        m = mesh.make_mesh(config)
        out["shape"] = dict(m.shape)
        with mesh.use(m, config.resolved_tables):
            f = jax.jit(lambda x: mesh.constrain(x, ("act_batch", "act_length", "act_heads")) * 2)
            out["spec"] = list(f(jnp.ones((8, 4, 16))).sharding.spec)
            g = jax.jit(lambda x: mesh.constrain(x, ("act_batch", "act_length", "act_heads")) * 2)
            out["odd"] = list(g(jnp.ones((7, 4, 16))).sharding.spec)
        sharding = mesh.batch_sharding(m, config.resolved_tables, 3, leading=1)
        out["rows"] = mesh.local_rows(sharding, 8, 1)
        out["batch"] = list(sharding.spec)
        try:
            mesh.check_batch(6, m, config.resolved_tables)
        except Exception as error:
            out["error"] = str(error)
        print(json.dumps(out))
    """)
    import os

    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    found = json.loads(
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
    )
    assert found["shape"] == {"data": 2, "fsdp": 2, "stage": 1, "context": 1, "tensor": 2, "expert": 1}
    assert found["spec"] == [["data", "fsdp"], None, "tensor"]
    assert found["odd"] == [None, None, "tensor"]
    assert found["batch"] == [None, ["data", "fsdp"], None]
    assert found["rows"] == list(range(8))
    assert "does not divide over 4 devices" in found["error"]
