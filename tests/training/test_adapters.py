"""The seam for adapters: attached after the build, trained alone, kept by decoding; a rank-one form of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style import decoding, model_dir
from t5x_style.checkpoints import stored
from t5x_style.errors import UserError
from t5x_style.models import build
from t5x_style.peft.adapters import Adapters, attach, matrices
from t5x_style.training import check_run
from t5x_style.training.setup import set_up
from tests.training.hand_made import packed
from tests.training.test_kinds import OLD, run_of, trained

pytestmark = pytest.mark.usefixtures("quick_to_compile")


class RankOne(nnx.Module):
    """x -> (x @ down) * up over the last dimension; `layers` in front of both where the kernel has it."""

    def __init__(self, linear, rngs):
        kernel, names = linear.kernel.get_value(), linear.kernel.get_metadata()["out_sharding"]
        front = kernel.shape[:1] if names[0] == "layers" else ()
        layers = names[:1] if front else ()
        inputs, outputs = kernel.shape[len(front)], kernel.shape[len(front) + 1 :]
        self.down = nnx.Param(0.1 * jax.random.normal(rngs.params(), (*front, inputs)), out_sharding=(*layers, "embed"))
        none = (None,) * len(outputs)
        self.up = nnx.Param(jnp.zeros((*front, *outputs)), out_sharding=(*layers, *none))

    def __call__(self, x, product):
        return jnp.tensordot(x @ self.down[...], self.up[...], 0)


@dataclasses.dataclass(frozen=True)
class RankOnes(Adapters):
    targets: tuple[str, ...] = ("*/attention/query", "*/mlp/up")

    def attach(self, model, rngs):
        for _, linear in matrices(model, self.targets):
            linear.adapter = RankOne(linear, rngs)


def test_it_trains_alone_from_an_old_model_dir(tmp_path):
    batch = packed(128)
    run = run_of(tmp_path, batch, init_from=str(OLD), adapters=RankOnes())
    losses = trained(run, batch)
    assert losses[-1] < losses[0] - 0.01
    names = set(stored.shapes(tmp_path / "checkpoints" / "6" / "params"))
    assert len(names) == 4
    assert all("/adapter/" in name for name in names)
    assert not any("/adapter/" in name for name in stored.shapes(tmp_path / "frozen"))
    setup = set_up(check_run.resolve(run))
    moments = [leaf for leaf in jax.tree.leaves(setup.abstract.optimizer) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * sum(leaf.size for leaf in setup.abstract.trainable.values())


def test_decoding_keeps_it():
    model = build(model_dir.read_config(OLD), 0)
    attach(model, RankOnes(), nnx.Rngs(1))
    for _, linear in matrices(model, RankOnes().targets):
        up = linear.adapter.up
        up.set_value(jnp.asarray(np.random.default_rng(0).normal(size=up.get_value().shape), jnp.float32))
    tokens = jnp.asarray([[5, 9, 17]])
    plain = build(model_dir.read_config(OLD), 0)
    found = decoding.prepare(model)(tokens)
    np.testing.assert_allclose(found, model(tokens), rtol=1e-5, atol=1e-5)
    assert not np.allclose(found, plain(tokens), atol=1e-2)


def test_a_pattern_that_matches_nothing(tmp_path):
    batch = packed(128)
    run = run_of(tmp_path, batch, init_from=str(OLD), adapters=RankOnes(("*/querry",)))
    with pytest.raises(UserError, match=r"'\*/querry' matches no matrix; their names end in .*query"):
        set_up(check_run.resolve(run))
