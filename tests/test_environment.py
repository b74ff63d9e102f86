"""The ways to install lateral agree with each other, and a set-up that cannot work ends in one clear line.

Set-ups run in a copy of the few files that they need, without network; the .venv of this checkout is not touched.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
CONDA_NAMES = {"matplotlib": "matplotlib-base", "playwright": "playwright-python"}  # conda-forge's matplotlib adds a Qt
NOT_ON_PYPI = {"python", "pip"}

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="the set-up needs make")


def required() -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that the set-up installs."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    return [Requirement(line) for line in [*project["dependencies"], *extras["notebooks"], *extras["test"]]]


def locked() -> list[Requirement]:
    return [Requirement(line) for line in LOCK.splitlines() if line.strip()]


# -- one list of dependencies ----------------------------------------------------------------------------------------


def test_environment_yml_lists_what_pyproject_lists_with_the_same_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, *others = environment["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python), "Binder takes its Python from here, and wants one version"
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(python.removeprefix("python="))
    conda = {r.name: r.specifier for r in map(Requirement, others)}
    conda.pop("pip")
    expected = {canonicalize_name(r.name): r.specifier for r in required()}
    assert conda == {CONDA_NAMES.get(name, name): specifier for name, specifier in expected.items()}


def test_binder_installs_the_package_as_conda_users_do():
    script = ROOT / "postBuild"
    (command,) = (line for line in (ROOT / "environment.yml").read_text().splitlines() if "pip install" in line)
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec " + command.removeprefix("#").strip()


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_its_command(tmp_path):
    backend = [sys.executable, "-c", f"import flit_core.buildapi as b; b.build_wheel({str(tmp_path)!r})"]
    subprocess.run(backend, cwd=ROOT, check=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "installed")
    files = (path for path in (ROOT / "lateral").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert held == {path.relative_to(ROOT).as_posix() for path in files}
    (points,) = (tmp_path / "installed").glob("*.dist-info/entry_points.txt")
    assert "lateral=lateral.cli:main" in points.read_text().replace(" ", "")
    run = [sys.executable, "-m", "lateral", "--version"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "JAX_PLATFORMS": "cpu"}
    said = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert said.stdout.startswith(f"lateral {PYPROJECT['project']['version']}, jax ")


def test_every_dependency_has_a_lower_bound():
    for requirement in required():
        assert [s.operator for s in requirement.specifier] == [">="], requirement


def test_lock_holds_exact_versions_and_no_addresses():
    assert LOCK.strip()
    for word in ("http:", "https:", "://", " @ ", "--"):
        assert word not in LOCK
    for requirement in locked():
        assert requirement.url is None
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert "*" not in str(requirement.specifier)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_pyproject_on_every_python_and_platform(python, platform):
    machine = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
        "os_name": "nt" if platform == "win32" else "posix",
    }
    pinned = {}
    for requirement in locked():
        if requirement.marker is None or requirement.marker.evaluate(machine):
            name = canonicalize_name(requirement.name)
            assert name not in pinned, f"{name} is pinned twice"
            pinned[name] = next(iter(requirement.specifier)).version
    for requirement in required():
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is not met by {version}"
    assert pinned["jax"] == pinned["jaxlib"]
    assert pinned["jax"].startswith("0.10.") == (python == "3.11")  # the last jax for Python 3.11


def test_pre_commit_runs_the_ruff_of_the_lock():
    (ruff,) = (str(r) for r in locked() if r.name == "ruff")
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[1] for hook in hooks} == {"check", "format"}
    assert all(hook["additional_dependencies"] == [ruff] for hook in hooks)


def test_citation_names_the_version_and_licence_of_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(citation["version"]) == PYPROJECT["project"]["version"]
    assert citation["license"] == PYPROJECT["project"]["license"] == "Apache-2.0"


# -- the set-up ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of what the set-up reads, at a path with a space."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in ("tools", "lateral"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("tests", "notebooks"):
        (copy / folder).mkdir()
    return copy


@pytest.fixture
def programs(tmp_path):
    """`programs(name, script)` puts a shell script before everything else on PATH."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def add(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return add


@pytest.fixture
def make(checkout, programs, tmp_path):
    """Runs make in the copy, with no network to be had and nothing of the user's own settings."""
    ours = re.compile(r"(PIP|UV|MAKE|MFLAGS|GNUMAKE)|.*_PROXY$|(PYTHON|PYTHONPATH|ARGS|VIRTUAL_ENV)$", re.IGNORECASE)
    clean = {name: value for name, value in os.environ.items() if not ours.match(name)}
    closed = "http://127.0.0.1:9/simple"
    clean |= {"LC_ALL": "C", "PATH": f"{tmp_path / 'programs'}{os.pathsep}{os.environ['PATH']}"}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": closed, "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    clean |= {"UV_NO_CONFIG": "1", "UV_DEFAULT_INDEX": closed, "UV_HTTP_RETRIES": "0"}
    clean |= {"UV_CACHE_DIR": str(tmp_path / "uv-cache")}

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["make", *arguments], cwd=checkout, env=clean | extra, capture_output=True, text=True, timeout=120
        )

    return run


def only_line(result: subprocess.CompletedProcess) -> str:
    """The one line that the set-up wrote to stderr before it failed; make adds a line of its own."""
    assert result.returncode != 0
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("make"))
    assert line.startswith("set-up: ")
    return line


def as_python_3_10(arguments: str = '"$2"') -> str:
    """A script for `python -c CODE` that runs CODE by this Python, which says that it is 3.10.4."""
    return f"""exec '{sys.executable}' -c 'import sys
sys.version_info = (3, 10, 4, "final", 0)
exec(sys.argv[1])' {arguments}"""


NO_UV = ("uv", "exit 127")


@needs_make
@pytest.mark.parametrize("target", ["lab", "test"])
def test_a_wrong_python_on_the_path_ends_in_one_line(make, programs, checkout, target):
    for name in ("python", "python3", "python3.11", "python3.12", "python3.13"):
        programs(name, as_python_3_10())
    line = only_line(make(target))
    assert "Python >= 3.11" in line
    assert "python3 is 3.10.4" in line
    assert not (checkout / ".venv").exists()


@needs_make
def test_a_wrong_python_chosen_by_the_user_is_not_replaced_by_another(make, programs):
    chosen = str(programs("python-of-mine", as_python_3_10()))
    assert f"{chosen} is 3.10.4" in only_line(make("lab", f"PYTHON={chosen}"))
    assert "PYTHON=/nowhere/python does not run" in only_line(make("lab", PYTHON="/nowhere/python"))


@needs_make
def test_a_python_without_venv_ends_in_one_line(make, programs, checkout, tmp_path):
    # As Debian ships it: the module venv is there, ensurepip comes in a package of its own.
    (tmp_path / "ensurepip.py").write_text('raise ImportError("No module named ensurepip")')
    programs(*NO_UV)
    line = only_line(make("lab", PYTHON=sys.executable, PYTHONPATH=str(tmp_path)))
    assert "has no venv module" in line
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
@needs_make
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_no_network_ends_in_one_line_and_leaves_no_half_made_venv(make, programs, checkout, installer):
    if installer == "pip":
        pytest.importorskip("ensurepip")
        programs(*NO_UV)
    elif shutil.which("uv") is None or subprocess.run(["uv", "--version"], capture_output=True).returncode != 0:
        pytest.skip("uv is not installed")
    unfinished = checkout / ".venv"
    unfinished.mkdir()
    (unfinished / "lateral.mark").touch()
    result = make("lab", PYTHON=sys.executable)
    line = only_line(result)
    assert f"with {installer} " in result.stdout
    assert "no network" in line
    assert not (checkout / ".venv").exists()
    log = re.search(r"details in (\S+)\)", line)[1]
    assert (checkout / log).read_text()


@pytest.mark.slow
@needs_make
def test_a_failed_rebuild_brings_the_finished_venv_back(make, checkout):
    finished = checkout / ".venv"
    finished.mkdir()
    (finished / "packages.stamp").write_text("of an older lock")
    (finished / "mine").write_text("kept")
    assert "no network" in only_line(make("lab", PYTHON=sys.executable))
    assert (finished / "mine").read_text() == "kept"
    assert not (checkout / ".venv.old").exists()


@pytest.mark.slow
@needs_make
def test_set_up_builds_once_and_again_only_when_something_changed(make, checkout, tmp_path):
    # An empty lock needs no network; lateral's build backend comes from the packages of this test's Python.
    import flit_core

    backend = tmp_path / "backend"
    backend.mkdir()
    (backend / "flit_core").symlink_to(Path(flit_core.__file__).parent)
    (checkout / "requirements.lock").write_text("")

    def setup():
        start = time.perf_counter()
        result = make("setup", PYTHON=sys.executable, PYTHONPATH=str(backend))
        assert result.returncode == 0, result.stderr
        return result.stdout, time.perf_counter() - start

    python = checkout / ".venv" / "bin" / "python"
    where = [python, "-c", "import importlib.util as u; print(u.find_spec('lateral').origin)"]

    assert setup()[0].startswith("Building .venv")
    found = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()) == checkout / "lateral" / "__init__.py"
    assert not list(checkout.glob(".venv?*"))  # no log, no older .venv

    said, seconds = setup()
    assert said == ""
    assert seconds < 5

    with (checkout / "pyproject.toml").open("a") as file:  # lateral is installed anew, the packages stay
        file.write("\n")
    built = python.lstat().st_mtime_ns
    assert setup()[0] == ""
    assert python.lstat().st_mtime_ns == built

    (checkout / ".venv" / "packages.stamp").unlink()  # as an interrupted set-up leaves it
    assert setup()[0].startswith("Building .venv")
    (checkout / "requirements.lock").write_text("# changed\n")
    assert setup()[0].startswith("Building .venv")
    assert setup()[0] == ""


@needs_make
def test_clean_removes_what_was_made_and_nothing_else(make, checkout):
    (checkout / "notebooks" / "mine.ipynb").write_text("{}")
    before = sorted(checkout.rglob("*"))
    made_folders = ".venv/bin .venv.old .ruff_cache .pytest_cache/v tests/__pycache__ notebooks/.ipynb_checkpoints"
    for made in made_folders.split():
        (checkout / made).mkdir(parents=True)
    for made in (".venv-setup.log", ".venv/lateral.mark", ".venv.old/packages.stamp"):
        (checkout / made).touch()
    assert make("clean").returncode == 0
    assert sorted(checkout.rglob("*")) == before


@needs_make
@pytest.mark.parametrize("target", ["lab", "setup", "test", "clean"])
@pytest.mark.parametrize("place", [".venv", ".venv.old", "a link"])
def test_a_venv_that_the_set_up_did_not_make_is_left_alone(make, checkout, tmp_path, target, place):
    theirs = tmp_path / "theirs" if place == "a link" else checkout / place
    (theirs / "bin").mkdir(parents=True)
    (theirs / "bin" / "python").symlink_to(sys.executable)
    if place == "a link":
        (checkout / ".venv").symlink_to(theirs)
    before = sorted(checkout.rglob("*")), sorted(theirs.rglob("*"))
    line = only_line(make(target, PYTHON=sys.executable))
    assert f"{'.venv' if place == 'a link' else place} was not made by this set-up and is left alone" in line
    assert f"make {'clean' if target == 'clean' else 'lab'} VENV=" in line
    assert (sorted(checkout.rglob("*")), sorted(theirs.rglob("*"))) == before


@pytest.mark.slow
@needs_make
def test_the_set_up_takes_another_place(make, checkout):
    (checkout / ".venv").mkdir()
    result = make("lab", "VENV=.venv-lateral", PYTHON=sys.executable)
    assert result.stdout.startswith("Building .venv-lateral ")
    assert "no network" in only_line(result)
    assert (checkout / ".venv").is_dir() and not (checkout / ".venv-lateral").exists()


@needs_make
def test_a_set_up_that_cannot_begin_keeps_the_finished_venv(make, programs, checkout, tmp_path):
    (tmp_path / "ensurepip.py").write_text('raise ImportError("No module named ensurepip")')
    programs(*NO_UV)
    finished = checkout / ".venv"
    finished.mkdir()
    (finished / "packages.stamp").write_text("of an older lock")
    assert "has no venv module" in only_line(make("lab", PYTHON=sys.executable, PYTHONPATH=str(tmp_path)))
    assert (finished / "packages.stamp").exists()


@needs_make
@pytest.mark.parametrize("broken", ["ruff check", "ruff format", "python -m pytest", "nothing"])
def test_make_test_fails_when_any_part_fails(make, checkout, broken):
    (checkout / "tools" / "setup.sh").write_text("exit 0\n")
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("ruff", "python"):
        (programs / name).write_text(f'#!/bin/sh\ncase "{name} $*" in "{broken}"*) exit 1;; esac\n')
        (programs / name).chmod(0o755)
    assert (make("test").returncode == 0) == (broken == "nothing")


def test_ci_runs_all_tests_and_makes_the_book():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-3:] == ["make test", "make test-slow", "make book"]


# -- notebooks in place ----------------------------------------------------------------------------------------------


def execute(*paths: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "execute_notebooks.py", *paths]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_notebooks_are_executed_and_cleaned(tmp_path):
    cell = new_code_cell(
        "import ipywidgets\nprint('s̄ =', 1 / 2)\nipywidgets.IntSlider()",
        id="the-cell",
        metadata={"tags": ["kept"], "execution": {"iopub.status.busy": "2024"}, "collapsed": False},
    )
    notebook = new_notebook(cells=[new_markdown_cell("# A", id="title"), cell], metadata={"widgets": {"state": 1}})
    path = tmp_path / "a.ipynb"
    nbformat.write(notebook, path)
    assert execute(path).returncode == 0

    first = path.read_bytes()
    done = nbformat.read(path, as_version=4)
    assert set(done.metadata) == {"kernelspec", "language_info"}
    assert done.metadata.kernelspec.name == "python3"
    assert done.metadata.language_info == {"name": "python"}
    title, cell = done.cells
    assert (title.id, cell.id, cell.execution_count) == ("title", "the-cell", 1)
    assert cell.metadata == {"tags": ["kept"]}
    assert cell.outputs[0].text == "s̄ = 0.5\n"
    assert set(cell.outputs[1].data) == {"text/plain"}  # a widget's model lives only in its kernel

    assert execute(path).returncode == 0
    assert path.read_bytes() == first


@pytest.mark.slow
def test_a_failing_cell_is_shown_and_leaves_every_notebook_as_it_was(tmp_path):
    paths = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    for path, source in zip(paths, ["print(1)", "raise ArithmeticError('on purpose')"], strict=True):
        nbformat.write(new_notebook(cells=[new_code_cell(source)]), path)
    before = [path.read_bytes() for path in paths]
    result = execute(*paths)
    assert result.returncode != 0
    assert "raise ArithmeticError('on purpose')" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("b.ipynb failed")
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)
