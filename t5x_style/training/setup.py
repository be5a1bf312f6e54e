"""From a TrainRun to what the loop needs: shapes, shardings, compiled steps; allocates nothing yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from jax.sharding import AbstractMesh, Mesh

from t5x_style import mesh as meshes
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.errors import UserError
from t5x_style.losses.loss import Batch, Now, Sums
from t5x_style.models.randomness import rows as dropout_keys
from t5x_style.training import mesh_use, state, step
from t5x_style.training.check_loss import check_loss
from t5x_style.training.run import TrainRun
from t5x_style.training.run_models import RunModel, axes_of, frozen_shapes, run_models, trainable_shapes

Shapes = dict[str, jax.ShapeDtypeStruct]


@dataclasses.dataclass
class Layout:
    """A run's arrays as shapes, and how they lie on a mesh.

    Attributes:
      resolver: the mesh, its sharding tables, and what they could not split.
      models: all models of the run by name. optimizer: the optax transformation.
      abstract: ShapeDtypeStructs of the state, with shardings. frozen, gradients: the same, by flat name.
      whole: what of the models the mesh leaves whole knowingly, in words. reads: the fields that the loss reads.
    """

    resolver: meshes.Resolver
    models: dict[str, RunModel]
    optimizer: optax.GradientTransformation
    abstract: state.TrainState
    frozen: Shapes
    gradients: Shapes
    whole: tuple[str, ...]
    reads: tuple[str, ...]


@dataclasses.dataclass
class Setup(Layout):
    """A run ready to start: its layout on real devices; train_step, eval_step: compiled at first use."""

    mesh: Mesh
    train_step: Any
    eval_step: Any


def loss_program(run: TrainRun, models: Mapping[str, RunModel]) -> step.LossProgram:
    """The run's loss on arrays: modules are put together inside, see RunModel.module."""

    def sums(trainable: state.Arrays, frozen: state.Arrays, batch: Batch, now: Now) -> Sums:
        modules = {name: model.module(trainable, frozen) for name, model in models.items()}
        with dropout_keys(now.keys):
            return run.loss(modules, batch, now)

    return step.LossProgram(run.loss.weights, sums)


def lay_out(run: TrainRun, mesh: Mesh | AbstractMesh) -> Layout:
    """The arrays of a run on a mesh, which may be one without devices; touches none and allocates nothing.

    Raises:
      UserError: the batches do not fit the mesh, the models cannot use an axis of it, or nothing trains.
    """
    tables = run.mesh.resolved_tables
    for part in run.data.parts:
        meshes.check_batch(part.batch_size // run.data.accumulation, mesh, tables)
    if run.evaluation is not None:
        meshes.check_batch(run.evaluation.data.rows, mesh, tables, "the evaluation's batch_size / accumulation")
    resolver = meshes.Resolver(mesh, tables)
    # With no mesh in force: nnx.eval_shape would take the logical names for mesh axes there.
    models = run_models(run)
    reads = run.loss.reads({name: model.config for name, model in models.items()})
    whole = _check_mesh_use(run, models, mesh, tables, reads)
    shapes, axes = trainable_shapes(models), axes_of(models)
    optimizer = run.optimizer.build({name: axes[name] for name in shapes})
    abstract = jax.eval_shape(lambda: state.fresh(_zeros(shapes), optimizer, run.extras))
    _check_average(run, abstract)
    frozen = frozen_shapes(models)
    check_loss(run.loss, reads, loss_program(run, models), shapes, frozen, abstract.extra, run.data)
    shardings = state.state_shardings(abstract, axes, resolver)
    return Layout(
        resolver=resolver,
        models=models,
        optimizer=optimizer,
        abstract=checkpoints.with_shardings(abstract, shardings),
        frozen=checkpoints.with_shardings(frozen, parameters.shardings(frozen, axes, resolver, "parameters")),
        gradients=checkpoints.with_shardings(shapes, parameters.shardings(shapes, axes, resolver, "gradients")),
        whole=whole,
        reads=reads,
    )


def set_up(run: TrainRun) -> Setup:
    """Builds mesh, shardings and steps; compiles nothing and allocates nothing yet.

    Raises:
      UserError: mesh and devices, or batch and mesh, do not fit; the models cannot use an axis of the mesh; or nothing
        trains.
    """
    mesh = meshes.make_mesh(run.mesh)
    layout = lay_out(run, mesh)

    def sharding(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.sharding, tree)

    program = loss_program(run, layout.models)
    config = step.StepConfig(
        layout.optimizer,
        run.optimizer.schedule,
        run.guard,
        run.extras,
        run.seed,
        run.data.open_streams,
        sharding(layout.gradients) if mesh.size > 1 else None,
    )
    train_step = jax.jit(
        step.make_train_step(program, config), donate_argnums=0, out_shardings=(sharding(layout.abstract), None)
    )
    eval_step = jax.jit(step.make_eval_step(program), out_shardings=layout.resolver.replicate())
    parts = {field.name: getattr(layout, field.name) for field in dataclasses.fields(layout)}
    return Setup(**parts, mesh=mesh, train_step=train_step, eval_step=eval_step)


def _check_average(run: TrainRun, abstract: state.TrainState) -> None:
    name = None if run.evaluation is None else run.evaluation.average
    if name is None:
        return
    value = abstract.extra[name]
    if not isinstance(value, dict) or set(value.get("average", ())) != set(abstract.trainable):
        kind = type(run.extras[name]).__name__
        raise UserError(f"Evaluation.average is {name!r}, but {kind} keeps no average of the parameters; name an Ema")


def _check_mesh_use(
    run: TrainRun,
    models: Mapping[str, RunModel],
    mesh: Mesh | AbstractMesh,
    tables: meshes.Tables,
    read: tuple[str, ...],
) -> tuple[str, ...]:
    """Refuses axes that models or data cannot use, see mesh_use; returns what stays whole knowingly."""
    sizes = dict(mesh.shape)
    mesh_use.check_lengths(run.data, sizes, tables, read)
    if run.evaluation is not None:
        mesh_use.check_lengths(run.evaluation.data, sizes, tables, read, "the evaluation's DataConfig.length")
    held = {
        name: mesh_use.Held(model.config, {path: leaf.shape for path, leaf in model.shapes.items()}, model.axes)
        for name, model in models.items()
    }
    return mesh_use.check_models(held, sizes, tables)


def _zeros(shapes: Shapes) -> state.Arrays:
    return {name: jax.numpy.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}
