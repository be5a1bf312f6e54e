"""The models of a run as shapes: the policy and those of its loss; what trains, what is frozen, what is shared.

Every array has a flat name, MODEL/PATH ("policy/trunk/segments/0/..."). Of each model the arrays that train are in the
state, the others in a second argument of the step; a model that starts where the policy starts shares the policy's
frozen arrays and holds copies of its trained ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from t5x_style import models
from t5x_style.checkpoints import parameters
from t5x_style.errors import UserError
from t5x_style.losses.loss import ModelSource
from t5x_style.models.specs import NO_DROPOUT, DtypePolicy, EncoderDecoderConfig
from t5x_style.peft.adapters import attach
from t5x_style.training import architecture, randomness
from t5x_style.training.patterns import trained_names
from t5x_style.training.run import TrainRun

POLICY = "policy"


@dataclasses.dataclass(frozen=True)
class RunModel:
    """One model of a run.

    Attributes:
      name: by which the loss gets it. source: where it comes from; of the policy, with the run's `init_from`.
      config, policy: architecture and number formats.
      graphdef, state: its structure (see checkpoints.parameters). shapes, axes: of every array, by its path.
      trained: the paths that train. shared: the paths whose arrays are the policy's.
    """

    name: str
    source: ModelSource
    config: Any
    policy: DtypePolicy
    graphdef: nnx.GraphDef
    state: nnx.State
    shapes: dict[str, jax.ShapeDtypeStruct]
    axes: dict[str, tuple[str | None, ...]]
    trained: frozenset[str]
    shared: frozenset[str] = frozenset()

    def flat_name(self, path: str) -> str:
        """The name of a path in the state or among the frozen arrays."""
        return f"{POLICY if path in self.shared else self.name}/{path}"

    def module(self, trainable: Mapping[str, jax.Array], frozen: Mapping[str, jax.Array]) -> nnx.Module:
        """The module with its arrays in it."""
        arrays = {}
        for path in self.shapes:
            name = self.flat_name(path)
            arrays[path] = trainable[name] if name in trainable else frozen[name]
        return parameters.merge(self.graphdef, self.state, parameters.nested(arrays))


def build(run: TrainRun, name: str, config: Any, policy: DtypePolicy) -> nnx.Module:
    """One model of the run with drawn weights, its adapters attached."""
    model = models.build(config, nnx.Rngs(randomness.key(run.seed, 0, "initialisation")), policy, run.execution)
    if name == POLICY and run.adapters is not None:
        attach(model, run.adapters, nnx.Rngs(randomness.key(run.seed, 0, "adapters")))
    return model


def run_models(run: TrainRun) -> dict[str, RunModel]:
    """All models of a run by name, the policy first. Allocates nothing.

    Raises:
      UserError: nothing trains, a pattern matches nothing, or a model that starts where the policy starts has
        parameters that the policy lacks.
    """
    sources = run.loss.models()
    if POLICY in sources:
        raise UserError(f"{type(run.loss).__name__}.models() names 'policy', which is the run's own model; rename it")
    found = {POLICY: _shape(run, POLICY, ModelSource(trainable=run.trained), run.model, run.policy)}
    policy = found[POLICY]
    for prefix in run.init_from if isinstance(run.init_from, Mapping) else ():
        if prefix and not any(path.startswith(f"{prefix}/") for path in policy.shapes):
            some = ", ".join(sorted({path.split("/")[0] for path in policy.shapes}))
            raise UserError(f"init_from: no parameter begins with {prefix!r}/; they begin with {some}")
    for name, source in sources.items():
        config = architecture.of_source(source, run.model, f"{type(run.loss).__name__}.{name}")
        if not source.trainable:
            config = without_dropout(config)
        model = _shape(run, name, source, config, source.policy or run.policy)
        if source.folder is None:
            for path in sorted(set(model.shapes) & set(policy.shapes)):
                if model.shapes[path].shape != policy.shapes[path].shape:
                    raise UserError(
                        f"{name} starts where the policy starts, but its {path} has shape {model.shapes[path].shape}, "
                        f"the policy's {policy.shapes[path].shape}; give {name} a folder"
                    )
            unknown = sorted(set(model.shapes) - set(policy.shapes))
            if unknown and not model.trained:
                raise UserError(
                    f"{name} starts where the policy starts, which has no parameter {unknown[0]}; give {name} a folder"
                )
            shared = frozenset(
                path
                for path in model.shapes
                if path not in model.trained
                and path not in policy.trained
                and path in policy.shapes
                and policy.shapes[path].dtype == model.shapes[path].dtype
            )
            model = dataclasses.replace(model, shared=shared)
        found[name] = model
    if not any(model.trained for model in found.values()):
        raise UserError("nothing trains: TrainRun.trainable and the loss's models choose no parameter")
    return found


def _shape(run: TrainRun, name: str, source: ModelSource, config: Any, policy: DtypePolicy) -> RunModel:
    graphdef, state, shapes = parameters.split(nnx.eval_shape(lambda: build(run, name, config, policy)))
    flat = parameters.flat(shapes)
    where = "TrainRun.trainable" if name == POLICY else f"{name}: ModelSource.trainable"
    return RunModel(
        name=name,
        source=source,
        config=config,
        policy=policy,
        graphdef=graphdef,
        state=state,
        shapes=flat,
        axes=parameters.flat_axes(state),
        trained=trained_names(flat, source.trainable, where),
    )


def without_dropout(config: Any) -> Any:
    """The architecture of a model that only answers: nothing in it is dropped."""
    if isinstance(config, EncoderDecoderConfig):
        return EncoderDecoderConfig(without_dropout(config.encoder), without_dropout(config.decoder))
    return dataclasses.replace(config, dropout=NO_DROPOUT)


def trainable_shapes(found: Mapping[str, RunModel]) -> dict[str, jax.ShapeDtypeStruct]:
    """Flat name -> shape of all that trains."""
    return {
        f"{name}/{path}": model.shapes[path]
        for name, model in found.items()
        for path in model.shapes
        if path in model.trained
    }


def frozen_shapes(found: Mapping[str, RunModel]) -> dict[str, jax.ShapeDtypeStruct]:
    """Flat name -> shape of all that is frozen and not shared."""
    return {
        f"{name}/{path}": shape
        for name, model in found.items()
        for path, shape in model.shapes.items()
        if path not in model.trained and path not in model.shared
    }


def axes_of(found: Mapping[str, RunModel]) -> dict[str, tuple[str | None, ...]]:
    """Flat name -> logical axes, of all arrays."""
    return {f"{name}/{path}": axes for name, model in found.items() for path, axes in model.axes.items()}
