"""What a run would do, as a tree for people: what trains, on what, with what; no device is touched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from t5x_style import mesh as meshes
from t5x_style.models import flops_by_side
from t5x_style.training import memory
from t5x_style.training.run import TrainRun
from t5x_style.training.run_models import POLICY, RunModel
from t5x_style.training.setup import Layout, lay_out

Tree = dict[str, Any]  # a line -> its branches


def describe(run: TrainRun, devices: int, summary: Mapping[str, Any], epochs: Mapping[str, float]) -> Tree:
    """The lines of a resolved run.

    Args:
      run: with its architecture, see check_run. devices: how many it would have.
      summary, epochs: of its data (`loader.summary()`, `loader.epochs(steps)`).

    Raises:
      UserError: the run does not fit so many devices.
    """
    mesh = meshes.abstract_mesh(run.mesh, devices)
    layout = lay_out(run, mesh)
    return {
        f"run in {run.model_dir}": {
            "what trains": _models(run, layout),
            f"loss: {_short(run.loss)}": {},
            f"data: {run.data.name}, split {run.data.split}": _data(run, summary, epochs),
            f"optimizer: {_short(run.optimizer)}": {},
            **(
                {f"extras: {', '.join(f'{name}={_short(rule)}' for name, rule in run.extras.items())}": {}}
                if run.extras
                else {}
            ),
            f"mesh of {devices} device{'s' if devices > 1 else ''}": _mesh(run, dict(mesh.shape)),
            "memory of a device, without activations": _memory(layout),
            "work": _work(run, layout),
            "evaluation": _evaluation(run),
            f"checkpoints: every {run.checkpoint_every} steps, the newest {run.keep_checkpoints} are kept": {},
        }
    }


def _models(run: TrainRun, layout: Layout) -> Tree:
    found: Tree = {}
    for name, model in layout.models.items():
        start = run.init_from if name == POLICY or model.source.folder is None else model.source.folder
        lines = [f"starts from {start}" if start else f"drawn with seed {run.seed}", _execution(run)]
        if name == POLICY:
            lines.append(f"trainable: {', '.join(run.trained)}")
        if model.shared:
            lines.append(f"{len(model.shared)} of its arrays are the policy's")
        lines.append(f"formats: {_short(model.policy)}")
        found[f"{name}: {_counts(model)}"] = {line: {} for line in lines}
    return found


def _counts(model: RunModel) -> str:
    sizes = {path: math.prod(shape.shape) for path, shape in model.shapes.items()}
    trained = sum(sizes[path] for path in model.trained)
    kind = type(model.config).__name__.removesuffix("Config")
    return f"{kind}, {sum(sizes.values()):,} parameters, {trained:,} train"


def _execution(run: TrainRun) -> str:
    values = dataclasses.asdict(run.execution)
    return "runs with " + ", ".join(f"{name}={value}" for name, value in values.items())


def _data(run: TrainRun, summary: Mapping[str, Any], epochs: Mapping[str, float]) -> Tree:
    data = run.data
    stages: Tree = {}
    for stage in summary["stages"]:
        rows = f"{stage['batch_size']} rows a step"
        rows += f", {data.accumulation} microbatches" if data.accumulation > 1 else ""
        sides = ", ".join(f"{side} {length}" for side, length in stage["lengths"].items())
        since = f"from step {stage['step']:,}: " if len(summary["stages"]) > 1 else ""
        stages[f"{since}{rows}, tokens a row: {sides}"] = {} if not since else _shares(stage["group_rates"])
    of_first = summary["stages"][0]["group_rates"]
    sources: Tree = {
        (f"{name}: {of_first[name]:.1%} of what is read, " if name in of_first else f"{name}: ")
        + f"{summary['examples'][name]:,} examples there, about {epochs[name]:.2f} epochs": {}
        for name in summary["sources"]
    }
    return {f"objective: {_short(data.first_objective)}": {}, **stages, "sources": sources}


def _shares(rates: Mapping[str, float]) -> Tree:
    return {", ".join(f"{name} {share:.1%}" for name, share in rates.items()): {}} if len(rates) <= 8 else {}


def _mesh(run: TrainRun, sizes: Mapping[str, int]) -> Tree:
    used = ", ".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1) or "one device"
    tables = "tables of its own" if run.mesh.tables is not None else f"ZeRO stage {run.mesh.zero_stage}"
    return {used: {}, tables: {}}


def _memory(layout: Layout) -> Tree:
    found = memory.parts(layout)
    lines: Tree = {f"{name}: {_size(size)}": {} for name, size in found.items()}
    lines[f"sum: {_size(sum(found.values()))}"] = {}
    if layout.resolver.replicated:
        lines[f"whole on every device: {', '.join(sorted(layout.resolver.replicated))}"] = {}
    lines |= {f"whole on every device of its axis: {what}": {} for what in layout.whole}
    return lines


def _size(nbytes: int) -> str:
    power = min(3, max(0, int(math.log2(max(nbytes, 1)) // 10)))
    return f"{nbytes / 1024**power:,.1f} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def _work(run: TrainRun, layout: Layout) -> Tree:
    config = layout.models[POLICY].config
    ends = [part.step for part in run.data.parts[1:]] + [run.steps]
    tokens = flops = 0.0
    for part, end in zip(run.data.parts, ends):
        steps = max(0, min(end, run.steps) - part.step)
        lengths = run.data.lengths_of(part.length)
        of_side = flops_by_side(config, lengths)
        tokens += steps * part.batch_size * sum(lengths.values())
        flops += steps * part.batch_size * sum(length * of_side.get(side, 0.0) for side, length in lengths.items())
    each = f"{run.steps:,} steps of {tokens / run.steps:,.0f} tokens"
    return {
        f"{each}{' on average' if run.data.stages else ''}: {tokens:,.0f} tokens": {},
        f"{flops / run.steps:.3g} FLOPs a step, {flops:.3g} in all (the policy, as if all of it trained)": {},
    }


def _evaluation(run: TrainRun) -> Tree:
    if run.evaluation is None:
        return {"none": {}}
    data = run.evaluation.data
    average = f" of the average {run.evaluation.average!r}" if run.evaluation.average else ""
    return {f"every {run.evaluation.every} steps{average}, on {data.name}, split {data.split}": {}}


def _short(value: Any) -> str:
    """A part by its name and the values that are not its defaults."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    changed = []
    for field in dataclasses.fields(value):
        now = getattr(value, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default  # type: ignore[misc]
        if now != default:
            changed.append(f"{field.name}={_short(now)}")
    return f"{type(value).__name__}({', '.join(changed)})"


def rendered(tree: Tree) -> str:
    """The tree as text, a branch a line."""
    lines: list[str] = []

    def add(branches: Tree, indent: str) -> None:
        for index, (line, inner) in enumerate(branches.items()):
            last = index == len(branches) - 1
            lines.append(f"{indent}{'└── ' if last else '├── '}{line}")
            add(inner, indent + ("    " if last else "│   "))

    for root, branches in tree.items():
        lines.append(root)
        add(branches, "")
    return "\n".join(lines)
