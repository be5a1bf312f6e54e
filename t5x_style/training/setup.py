"""From a TrainRun to what the loop needs: mesh, shardings, compiled step, state made sharded from the start."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from t5x_style import mesh as meshes
from t5x_style import models
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.losses.forward import forward
from t5x_style.losses.routers import add_router_losses
from t5x_style.training import randomness, state, step
from t5x_style.training.run import TrainRun


@dataclasses.dataclass
class Setup:
    """A run ready to loop.

    Attributes:
      mesh: the device mesh. resolver: its sharding tables, and what they could not split.
      abstract: ShapeDtypeStructs of the state, with shardings. gradients: the same for the gradients.
      initialise: () -> fresh state. train_step, eval_step: compiled at first use.
    """

    mesh: Mesh
    resolver: meshes.Resolver
    abstract: state.TrainState
    gradients: Any
    initialise: Callable[[], state.TrainState]
    train_step: Any
    eval_step: Any


def make_loss_function(run: TrainRun, graphdef: nnx.GraphDef, model_state: nnx.State) -> step.LossFunction:
    """The loss of a model on one microbatch of the fields that t5x_style.data delivers, see losses/forward.py."""

    def loss_function(params: parameters.Params, batch: dict[str, jax.Array]) -> tuple:
        model = parameters.merge(graphdef, model_state, params)
        passed = forward(model, batch)
        sums = cross_entropy(
            model.head,
            passed.hidden,
            passed.targets,
            passed.weights,
            z_loss=run.z_loss,
            max_z_loss=run.max_z_loss,
            chunk_size=model.execution.loss_chunk,
        )
        return add_router_losses(*sums, passed.router_losses)

    return loss_function


def set_up(run: TrainRun) -> Setup:
    """Builds mesh, shardings and steps; compiles nothing and allocates nothing yet.

    Raises:
      UserError: mesh and devices, or batch and mesh, do not fit.
    """
    mesh = meshes.make_mesh(run.mesh)
    tables = run.mesh.tables
    meshes.check_batch(run.data.batch_size // run.data.accumulation, mesh, tables)
    resolver = meshes.Resolver(mesh, tables)

    def build() -> nnx.Module:
        rngs = nnx.Rngs(randomness.key(run.seed, 0, "initialisation"))
        return models.build(run.model, rngs, run.policy, run.execution)

    # Outside the mesh: nnx.eval_shape would take the logical names for mesh axes there.
    graphdef, model_state, abstract_params = parameters.split(nnx.eval_shape(build))
    axes = parameters.logical_axes(model_state)
    optimizer = run.optimizer.build(axes)
    with meshes.use(mesh, tables):

        def fresh() -> state.TrainState:
            return state.fresh(parameters.split(build())[2], optimizer)

        abstract = jax.eval_shape(fresh)
        shardings = state.state_shardings(abstract, optimizer, axes, resolver)
        gradient_shardings = parameters.shardings(abstract_params, axes, resolver, "gradients")
        loss_function = make_loss_function(run, graphdef, model_state)
        train_step = step.make_train_step(
            loss_function,
            optimizer,
            run.optimizer.schedule,
            run.guard,
            gradient_shardings if mesh.size > 1 else None,
        )
        return Setup(
            mesh=mesh,
            resolver=resolver,
            abstract=checkpoints.with_shardings(abstract, shardings),
            gradients=checkpoints.with_shardings(abstract_params, gradient_shardings),
            initialise=jax.jit(fresh, out_shardings=shardings),
            train_step=jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, None)),
            eval_step=jax.jit(step.make_eval_step(loss_function)),
        )
