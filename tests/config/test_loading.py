"""Every mistake in a gin file or an override is one clear line, before anything is built for real."""

import dataclasses
import sys
import textwrap
import types

import pytest

from t5x_style import config
from t5x_style.errors import UserError

MODULE = """
import dataclasses
from t5x_style.errors import UserError

@dataclasses.dataclass(frozen=True)
class Inner:
    a: int
    b: float = 1.0

    def __post_init__(self):
        if self.b < 0:
            raise UserError("Inner.b is -1" if self.b == -1 else "b is negative")

def make(n: int = 3, scale: float = 1.0):
    return Inner(a=n, b=scale)

@dataclasses.dataclass(frozen=True)
class Run:
    model_dir: str
    inner: Inner
    other: Inner | None = None
    names: tuple[str, ...] = ()
    steps: int = 3
"""
BASE = """
from __gin__ import dynamic_registration
import gin_test_module

MODEL_DIR = %gin.REQUIRED
N = 5
gin_test_module.Run.model_dir = %MODEL_DIR
gin_test_module.Run.inner = @gin_test_module.make()
gin_test_module.Run.other = @two/gin_test_module.Inner()
gin_test_module.make.n = %N
two/gin_test_module.Inner.a = 7
"""


@pytest.fixture(scope="module")  # gin registers a class once for the process
def module():
    module = types.ModuleType("gin_test_module")
    sys.modules["gin_test_module"] = module  # before exec: dataclasses look their module up
    exec(MODULE, module.__dict__)
    yield module
    del sys.modules["gin_test_module"]


@pytest.fixture
def gin_file(tmp_path):
    def write(extra="", base=BASE, name="run.gin"):
        path = tmp_path / name
        path.write_text(base + textwrap.dedent(extra))
        return str(path)

    return write


def test_builds_the_whole_tree(module, gin_file):
    loaded = config.load(module.Run, [gin_file()], ["MODEL_DIR = 'out'", "make.scale = 0.5"])
    assert loaded.root == module.Run("out", module.Inner(5, 0.5), module.Inner(7))
    assert "N = 5" in loaded.operative
    assert "scale = 0.5" in loaded.full


def test_operative_config_gives_the_same_run_again(module, gin_file, tmp_path):
    loaded = config.load(module.Run, [gin_file()], ["MODEL_DIR = 'out'"])
    (tmp_path / "operative.gin").write_text(loaded.operative)
    again = config.load(module.Run, [str(tmp_path / "operative.gin")])
    assert again.root == loaded.root
    assert again.operative == loaded.operative


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ([], "macro MODEL_DIR is not set; pass --gin.MODEL_DIR"),
        (["MODEL_DIR = 'x'", "NN = 3"], "nothing uses the binding NN (--gin.NN=3)"),
        (["MODEL_DIR = 'x'", "Run.steps = 'abc'"], "Run.steps is 'abc', must be int (--gin.Run.steps='abc')"),
        (["MODEL_DIR = 'x'", "Run.steps = True"], "Run.steps is True, must be int"),
        (["MODEL_DIR = 'x'", "Run.stepz = 4"], "--gin.Run.stepz=4"),
        (["MODEL_DIR = x"], "strings need quotes"),
        (["MODEL_DIR = AdamW"], "did you mean --gin.MODEL_DIR=@AdamW()?"),
        (["MODEL_DIR = 'x'", "tow/Inner.b = 4.0"], "nothing uses the binding tow/Inner.b"),
        (["MODEL_DIR = 'x'", "Foo.b = 4.0"], "--gin.Foo.b=4.0: nothing is called 'Foo'"),
        (["MODEL_DIR = 'x'", "make.scale = %ZZ"], "macro ZZ is not set"),
        (["MODEL_DIR = 'x'", "Run.names = ['a', 2]"], "Run.names is ['a', 2]"),
    ],
)
def test_wrong_overrides(module, gin_file, bindings, message):
    with pytest.raises(UserError) as error:
        config.load(module.Run, [gin_file()], bindings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            "gin_test_module.Run.stepz = 3\n",
            "run.gin:12: gin_test_module.Run has no parameter 'stepz'; did you mean steps?",
        ),
        ("gin_test_module.Run.steps = (3\n", "bracket or a string is not closed"),
        ("gin_test_module.Rum.steps = 3\n", "run.gin:12: nothing is called 'gin_test_module.Rum'; did you mean gin_"),
        ("gin_test_module.Run.steps = 'x'\n", "Run.steps is 'x', must be int"),
        ("gin_test_module.Run.steps = $\n", "run.gin:12:"),
        ("tow/gin_test_module.Inner.b = 2.0\n", "run.gin:12"),
        ("include 'run.gin'\n", "includes it again"),
        ("import no_such_module_anywhere\n", "no_such_module_anywhere"),
        ("include 'no/such/file.gin'\n", "no/such/file.gin"),
    ],
)
def test_wrong_files(module, gin_file, extra, message):
    with pytest.raises(UserError) as error:
        config.load(module.Run, [gin_file(extra)], ["MODEL_DIR = 'x'"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_value_names_the_binding(module, gin_file):
    base = "from __gin__ import dynamic_registration\nimport gin_test_module\ngin_test_module.Run.steps = 3\n"
    with pytest.raises(UserError, match=r"Run: no value for inner, model_dir; bind Run.inner"):
        config.load(module.Run, [gin_file(base=base)])


def test_missing_file_lists_near_names():
    with pytest.raises(UserError, match=r"runs/quikstart_pretrain.gin.*runs/quickstart_pretrain.gin"):
        config.load(dict, ["runs/quikstart_pretrain.gin"])


def test_files_are_found_with_and_without_the_folder_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert config.find_gin_file("runs/quickstart_pretrain.gin") == config.find_gin_file(
        "gin/runs/quickstart_pretrain.gin"
    )


def test_root_that_no_file_configures(module, gin_file):
    @dataclasses.dataclass(frozen=True)
    class Other:
        x: int = 1

    with pytest.raises(UserError, match="configure no Other"):
        config.load(Other, [gin_file()], ["MODEL_DIR = 'x'"])


def test_arguments():
    import argparse

    parser = argparse.ArgumentParser(prog="p")
    config.add_arguments(parser)
    namespace, bindings = config.parse_arguments(parser, ["--gin_file=a.gin", "--gin.A='x=y'", "--gin.B", "3"])
    assert namespace.gin_file == ["a.gin"]
    assert bindings == ["A = 'x=y'", "B = 3"]
    with pytest.raises(UserError, match="unknown argument '--what'"):
        config.parse_arguments(parser, ["--what"])
    with pytest.raises(UserError, match="has no value"):
        config.parse_arguments(parser, ["--gin.A"])


@pytest.mark.parametrize(("value", "message"), [(-1, "Inner.b is -1"), (-2, "b is negative (in Inner)")])
def test_our_own_messages_stand_without_gins(module, gin_file, value, message):
    with pytest.raises(UserError) as error:
        config.load(module.Run, [gin_file()], ["MODEL_DIR = 'x'", f"two/Inner.b = {value}"])
    assert str(error.value) == message
