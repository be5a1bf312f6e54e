"""The console command: the map, the table behind it, names, options, exit codes."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from t5x_style import __version__, cli, command_line
from t5x_style.errors import UserError

ROOT = Path(__file__).parent.parent
PACKAGES = ("t5x_style", "tasks", "beam_pipelines")
# Run by our own code alone: the console command itself, and what the crawl starts for every package.
NOT_COMMANDS = {
    "t5x_style",
    "beam_pipelines.sources.documentation.pydoc_worker",
    "beam_pipelines.quality.fit_fasttext",
}
OPTIONAL = {"kenlm"}  # no extra has it; the code that asks for it says how to install it


@pytest.fixture(autouse=True)
def _same_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(capsys, *argv):
    """(exit code, standard output, standard error) of one call in this process."""
    try:
        code = cli.main(argv)
    except SystemExit as error:  # argparse, after --help or a wrong option
        code = error.code
    return (code, *capsys.readouterr())


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize(("name", "module"), cli.MODULES.items())
def test_every_entry_is_a_command(name, module):
    main = cli.resolve(module)
    documentation = sys.modules[main.__module__].__doc__
    assert documentation
    assert main.__doc__
    # What the help replaces by the name that was typed.
    assert f"python -m {module}" in documentation


def test_every_module_that_is_run_is_in_the_table():
    runnable = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for package in PACKAGES
        for path in sources(package)
        if "\nif __name__ ==" in path.read_text(encoding="utf-8")
    }
    assert runnable - NOT_COMMANDS == set(cli.MODULES.values())
    assert len(set(cli.MODULES.values())) == len(cli.MODULES)


def test_no_command_is_imported_by_name():
    imported = {
        name.split(".")[0]
        for path in sources("t5x_style")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imports(node)
    }
    assert not imported & {"beam_pipelines", "tasks"}


def imports(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []


def test_the_data_extra_is_what_only_the_data_packages_import():
    found = {
        package: {
            name.split(".")[0]
            for path in sources(package)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in imports(node)
        }
        - set(sys.stdlib_module_names)
        for package in PACKAGES
    }
    core = found["t5x_style"] - {"seqio"}  # evaluation/ imports it when it is needed
    of_the_core = {"packaging", "scipy", "fsspec"}  # by way of jax and orbax
    third_party = (found["tasks"] | found["beam_pipelines"]) - core - of_the_core - OPTIONAL - set(PACKAGES)
    assert third_party <= cli.DATA_MODULES
    assert [name for name in cli.DATA_MODULES if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",), ("help",)])
def test_the_map_lists_every_command(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for group in cli.GROUPS.values():
        for name, _, summary in group:
            (line,) = [line for line in lines if line.split()[:1] == [name]]
            assert line.endswith(f"  {summary}")
    assert max(map(len, lines)) <= 100
    assert "t5x_style COMMAND --help" in lines[-1]


def test_the_map_is_instant_and_python_m_is_the_same_command():
    program = (
        "import runpy, sys\nsys.argv = ['x']\n"
        "try:\n    runpy.run_module('t5x_style', run_name='__main__')\nexcept SystemExit as end:\n"
        "    print(end.code, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *overview, last = done.stdout.splitlines()
    assert overview[2] == "usage: python -m t5x_style COMMAND [OPTIONS]"
    code, *loaded = last.split()
    assert code == "0"
    assert not {"jax", "numpy", "gin", "apache_beam", "tensorflow", "seqio", "beam_pipelines", "tasks"} & set(loaded)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"t5x_style {__version__}\n", "")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trian", "did you mean train? "), ("clean-wep", "did you mean clean-web? "), ("zzz", ""), ("--gin_file=x", "")],
)
def test_an_unknown_command(capsys, name, hint):
    line = f"error: t5x_style has no command {name!r}; {hint}`t5x_style --help` lists them\n"
    assert run(capsys, name) == (2, "", line)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (("train", "--help"), "t5x_style train"),
        (("help", "train"), "t5x_style train"),
        (("huggingface", "export", "--help"), "t5x_style huggingface export"),
        (("clean-web", "--help"), "t5x_style clean-web"),
        (("clean_web", "--help"), "t5x_style clean-web"),
    ],
)
def test_help_names_the_command_as_it_was_called(capsys, typed, shown):
    code, out, err = run(capsys, *typed)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: {shown} [-h]")
    assert "python -m" not in out


@pytest.mark.parametrize("module", ["t5x_style.train", "beam_pipelines.clean_web"])
def test_help_of_a_module_names_the_module(capsys, module):
    with pytest.raises(SystemExit):
        cli.resolve(module)(["--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: python -m {module} [-h]")
    assert "t5x_style train" not in out
    assert "t5x_style clean-web" not in out


def test_exit_codes_and_errors_are_the_commands(capsys, monkeypatch, tmp_path):
    code, _, err = run(capsys, "train", "--gin-flie=x")
    assert (code, err) == (2, "error: unknown argument '--gin-flie=x'; `t5x_style train --help` lists the known ones\n")
    code, _, err = run(capsys, "generate")
    assert code == 2
    assert err.splitlines()[-1].startswith("t5x_style generate: error: ")

    commands = {"lazy_command": "def main(argv):\n    return 7 if argv == ['-x', '--a_b'] else 1\n"}
    commands["interrupted_command"] = "raise KeyboardInterrupt"
    for name, text in commands.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setitem(cli.MODULES, name.replace("_", "-"), name)
    monkeypatch.chdir(tmp_path)  # found from the working directory, as with python -m
    assert run(capsys, "lazy_command", "-x", "--a_b")[0] == 7
    assert run(capsys, "interrupted-command") == (130, "", "interrupted: run the same command again to continue\n")


def test_a_missing_extra_is_one_line():
    """What a core installation, which has none of DATA_MODULES, says to each command's --help."""
    program = (
        "import contextlib, io, sys\nfrom t5x_style import cli\n"
        "class Absent:\n    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in cli.DATA_MODULES:\n            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "for command in cli.MODULES:\n    out = io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):\n"
        "        try:\n            code = cli.main([command, '--help'])\n"
        "        except SystemExit as end:\n            code = end.code\n"
        "    print(code, out.getvalue().splitlines()[0])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said = dict(zip(cli.MODULES, done.stdout.splitlines(), strict=True))
    needs = "2 error: t5x_style {} needs the data extra: pip install '.[data]' (no module "
    for name, module in cli.MODULES.items():
        helps = said[name].startswith(f"0 usage: t5x_style {name} ")
        assert helps or (module.startswith("beam_pipelines.") and said[name].startswith(needs.format(name)))
    assert said["clean-web"].startswith("2 ")


def test_another_missing_module_is_a_mistake_of_ours(monkeypatch, tmp_path):
    (tmp_path / "broken_command.py").write_text("import apache_beam_of_tomorrow\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.MODULES, "broken-command", "broken_command")
    with pytest.raises(ModuleNotFoundError, match="apache_beam_of_tomorrow"):
        cli.main(["broken-command"])


def parse(*argv):
    parser = command_line.parser("a.module", "Does it: python -m a.module.")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--prompt")
    parser.add_argument("rest", nargs="*")
    return parser.parse_known_args(list(argv))


def test_options_are_joined_either_way():
    for argv in (["--top-k", "5"], ["--top-k=5"], ["--top_k=5"]):
        found, unknown = parse(*argv)
        assert (found.top_k, unknown) == (5, [])
    found, unknown = parse("--prompt=--top-k", "a-b", "--beam-option=c-d", "--temp_location", "--", "--top-k")
    assert (found.prompt, found.top_k, found.rest) == ("--top-k", None, ["a-b"])
    assert unknown[:2] == ["--beam-option=c-d", "--temp_location"]


def test_options_of_sub_commands_are_joined_either_way():
    parser = command_line.parser("a.module", "")
    parser.add_subparsers().add_parser("export").add_argument("--model_type")
    assert parser.parse_args(["export", "--model-type", "a-b"]).model_type == "a-b"


def test_beams_own_options_stay_as_they_are():
    from beam_pipelines import cache_tasks

    beams = ["--direct_num_workers=2", "--job_name", "a-job"]
    own, left = cache_tasks.parse_arguments(["--task", "t", "--output=a-b", "--data-dir", "d-e", *beams])
    assert (own.data_dir, own.output, left) == ("d-e", "a-b", beams)
    with pytest.raises(UserError, match=r"unknown argument '--direct-num-workers=2'; `python -m beam_pipelines\.cache"):
        cache_tasks.parse_arguments(["--task", "t", "--output", "o", "--direct-num-workers=2"])


SCRIPT = """#!{}
import sys
from t5x_style.cli import main
if __name__ == "__main__":
    sys.exit(main())
"""


def test_worker_processes_of_the_installed_script(tmp_path):
    script = tmp_path / "bin" / "t5x_style"  # as an installation writes it for the entry point in setup.py
    script.parent.mkdir()
    script.write_text(SCRIPT.format(sys.executable))
    text = b"The river rises in the hills to the north of the town."
    head = "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://x/{}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
    head += "WARC-Record-ID: <urn:uuid:{:036d}>\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n"
    for number in range(2):
        content = head.format(number, number, len(text)).encode() + text + b"\r\n\r\n"
        (tmp_path / f"{number}.warc.wet").write_bytes(content)
    command = [sys.executable, script, "clean_web", "--input", "*.wet", "--output", "out", "--workers", "2"]
    command += ["--gin-file", "web/gopher.gin", "--gin.gopher_quality.GopherQuality.min_words=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *_ = json.loads((tmp_path / "out" / "stats.json").read_text())["stages"]
    assert (first["name"], first["in"]) == ("read", 2)
