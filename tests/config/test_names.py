"""Short names are text: every entry leads to what it names. A user's own modules need no table."""

import importlib
import os
import pkgutil
import subprocess
import sys
import textwrap

import pytest

from beam_pipelines.web import gin_names
from t5x_style import config, losses, peft
from t5x_style.config.names import table
from t5x_style.config.resolve import Resolver
from t5x_style.data import objectives
from t5x_style.errors import UserError
from t5x_style.losses.loss import Loss
from t5x_style.peft.adapters import Adapters
from t5x_style.training.extras import Extra
from t5x_style.training.optimizers import AdamW, Optimizer
from t5x_style.training.schedules import Schedule


@pytest.mark.parametrize("names", [config.NAMES, gin_names.NAMES], ids=["t5x_style", "beam_pipelines"])
def test_every_entry_leads_to_what_it_names(names):
    for short, full in names.items():
        module, _, name = full.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        assert callable(found)
        assert f"{found.__module__}.{found.__qualname__}" == full, f"{short} is only re-exported there"
        assert short == name


def test_every_part_of_a_kind_that_a_run_takes_has_a_name():
    """A new loss, extra, objective or adapter is a line in t5x_style/config/names.py."""
    found = set()
    for room in (losses, peft, objectives):
        for info in pkgutil.iter_modules(room.__path__, f"{room.__name__}."):
            importlib.import_module(info.name)

    def visit(base):
        for kind in base.__subclasses__():
            if kind.__module__.startswith("t5x_style."):
                found.add(f"{kind.__module__}.{kind.__qualname__}")
            visit(kind)

    for base in (Loss, Extra, Adapters, Optimizer, Schedule, objectives.Objective):
        visit(base)
    assert found <= set(config.NAMES.values())


def test_a_name_of_two_things_is_refused():
    with pytest.raises(ValueError, match=r"A means a.A and b.A"):
        table({"a": ("A",), "b": ("A",)})


def test_names_may_be_longer_than_need_be():
    resolver = Resolver(config.NAMES)
    full = "t5x_style.training.optimizers.AdamW"
    for name in ("AdamW", "optimizers.AdamW", "training.optimizers.AdamW", full):
        assert resolver.resolve(name, {}) == full
    assert resolver.found[full] is AdamW
    import t5x_style.models.presets.llama as module

    assert resolver.resolve("llama", {"llama": module}) == "t5x_style.models.presets.llama.llama"
    assert resolver.resolve("llama.llama", {"llama": module}) == "t5x_style.models.presets.llama.llama"
    with pytest.raises(UserError, match="no class or function"):
        resolver.resolve("t5x_style.mesh.AXES", {})
    for name in ("optimisers.AdamW", "AdamW.build.x", "t5x_style.mesh.AXES", "mesh", "t5x_style.no_such.Thing"):
        with pytest.raises(UserError):
            resolver.resolve(name, {})


def test_an_ambiguous_end_of_a_name_is_refused():
    resolver = Resolver({"A": "one.part.Thing", "B": "two.part.Thing"})
    with pytest.raises(UserError, match=r"'part.Thing' can be one.part.Thing or two.part.Thing; write more"):
        resolver.resolve("part.Thing", {})


def test_only_names_that_occur_are_imported():
    program = textwrap.dedent("""
        import sys
        from t5x_style import config, losses, peft
        from t5x_style.training.run import TrainRun
        config.load(TrainRun, ["runs/quickstart_pretrain.gin"], ["MODEL_DIR = 'x'"])
        presets = [name for name in sys.modules if name.startswith("t5x_style.models.presets.")]
        assert sorted(presets) == ["t5x_style.models.presets.llama", "t5x_style.models.presets.sizes"], presets
    """)
    subprocess.run([sys.executable, "-c", program], check=True)


MODULE = """
import dataclasses

@dataclasses.dataclass(frozen=True)
class Halving:
    start: float = 1.0

@dataclasses.dataclass(frozen=True)
class Run:
    schedule: Halving | None = None
    steps: int = 3
"""
SCRIPT = """
import sys
sys.path = [path for path in sys.path if path not in ("", {folder!r})]  # as a console script has it
from t5x_style import config, losses, peft
from t5x_style.config.resolve import import_module
Run = import_module("my_parts.runs").Run
for lines in sys.argv[1].split("|"):
    open("run.gin", "w").write(lines.replace(";", "\\n"))
    loaded = config.load(Run, ["run.gin"], sys.argv[2:])
    open("again.gin", "w").write(loaded.operative)
    assert config.load(Run, ["again.gin"]).root == loaded.root
    print(loaded.root)
"""


def test_modules_of_the_working_directory_are_used_by_import_or_by_full_name(tmp_path):
    (tmp_path / "my_parts").mkdir()
    (tmp_path / "my_parts" / "__init__.py").write_text("")
    (tmp_path / "my_parts" / "runs.py").write_text(MODULE)
    forms = [
        "import my_parts.runs;my_parts.runs.Run.schedule = @my_parts.runs.Halving()",
        "from my_parts import runs;Run.schedule = @runs.Halving()",
        "from my_parts import runs as own;own.Run.schedule = @own.Halving()",
        "from __gin__ import dynamic_registration;from my_parts import runs;runs.Run.schedule = @runs.Halving()",
        "my_parts.runs.Run.schedule = @my_parts.runs.Halving()",
    ]
    root = os.path.dirname(os.path.dirname(config.__file__))
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(root)}
    script = SCRIPT.format(folder=str(tmp_path))
    command = [sys.executable, "-c", script, "|".join(forms), "Halving.start = 0.5", "Run.steps = 4"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["Run(schedule=Halving(start=0.5), steps=4)"] * len(forms)
