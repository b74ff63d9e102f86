"""The layout that a reader is promised: small modules, short functions, true lists of names, nothing private shared."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import lateral

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "lateral").rglob("*.py"))
OTHERS = sorted(path for folder in ("benchmarks", "tests", "tools") for path in (ROOT / folder).glob("*.py"))
LESSONS = ("dynamics", "utility", "network", "evolution", "backprop")
MAX_LINES, MAX_LINES_OF_A_FUNCTION, MAX_LINES_OF_THE_LESSONS = 350, 60, 1145
MAX_LINES_OF_THE_CORE, MAX_LINES_OF_ITS_CODE = 7_750, 4_750
NOT_THE_CORE = {
    "pictures": (
        "figure",
        "plotting",
        "mosaic",
        "animation",
        "data_figure",
        "training_curves",
        "sketches",
        "equal_work",
    ),
    "lessons and apps": ("lessons", "widgets", "teaching"),
    "data": ("bounds", "conditions", "contexts", "counting", "intervals"),
    "checks": ("checks",),
    "files": ("storage", "runs", "fates", "tables", "neighbours", "show"),
    "command line": ("cli", "__main__", "options", "terminal", "startup", "compiled", "threads"),
    "plumbing of settings": ("fields", "static"),
}


def short_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def module_name(path: Path) -> str:
    return short_name(path).removesuffix("/__init__").replace("/", ".")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def n_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("path", MODULES, ids=short_name)
def test_a_module_is_short_and_so_are_its_functions(path):
    assert n_lines(path) <= MAX_LINES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(node) is not None
            first = node.body[min(documented, len(node.body) - 1)].lineno
            assert node.end_lineno - first + 1 <= MAX_LINES_OF_A_FUNCTION, node.name


def test_the_lessons_are_read_in_half_an_hour():
    assert sum(n_lines(ROOT / "lateral" / f"{name}.py") for name in LESSONS) < MAX_LINES_OF_THE_LESSONS


def n_lines_of_code(path: Path) -> int:
    """Without blank lines, comments and docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, documented) and ast.get_docstring(node)]
    texts = {line for node in nodes for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    lines = enumerate(path.read_text().splitlines(), start=1)
    return sum(number not in texts and line.strip()[:1] not in ("", "#") for number, line in lines)


def test_the_core_is_read_in_an_afternoon():
    others = {name for names in NOT_THE_CORE.values() for name in names}
    assert others <= {part for path in MODULES for part in short_name(path).split("/")}
    core = [path for path in MODULES if not others & set(short_name(path).split("/"))]
    assert sum(map(n_lines, core)) < MAX_LINES_OF_THE_CORE
    assert sum(map(n_lines_of_code, core)) < MAX_LINES_OF_ITS_CODE


def test_the_page_about_the_package_states_these_limits():
    text = " ".join((ROOT / "docs" / "package.md").read_text().split())
    assert f"have fewer than {MAX_LINES_OF_THE_LESSONS:,} lines together" in text
    assert f"more than {MAX_LINES} lines and no function more than {MAX_LINES_OF_A_FUNCTION}" in text
    assert f"fewer than {MAX_LINES_OF_THE_CORE:,} lines, of which fewer than {MAX_LINES_OF_ITS_CODE:,} are code" in text


def test_the_page_about_the_package_lists_every_file_and_folder():
    text = (ROOT / "docs" / "package.md").read_text()
    listed = set(re.findall(r"\(\.\./lateral/(\w+)(?:\.py|/__init__\.py)\)", text))
    inner = {path.relative_to(ROOT / "lateral").parts[0].removesuffix(".py") for path in MODULES}
    assert listed == inner - {"__init__", "__main__"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__main__.py"], ids=short_name)
def test_the_list_of_public_names_is_true(path):
    """Every public function, class and constant of a module is in its list, and nothing else is."""
    module = importlib.import_module(module_name(path))
    listed = list(getattr(module, "__all__", []))
    assert len(set(listed)) == len(listed) and all(hasattr(module, name) for name in listed)
    if path.name != "__init__.py":
        definitions = (ast.FunctionDef, ast.ClassDef)
        defined = {node.name for node in tree_of(path).body if isinstance(node, definitions)}
        assert {name for name in defined if not name.startswith("_")} <= set(listed)


@pytest.mark.parametrize("path", [*MODULES, *OTHERS], ids=short_name)
def test_only_listed_names_are_imported_from_another_module(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lateral":
            module = importlib.import_module(node.module)
            listed = set(getattr(module, "__all__", []))
            for name in (alias.name for alias in node.names):
                submodule = (ROOT / node.module.replace(".", "/") / f"{name}.py").exists()
                submodule = submodule or (ROOT / node.module.replace(".", "/") / name).is_dir()
                assert submodule or name in listed, f"{node.module}.{name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lateral":
            assert not (node.attr.startswith("_") and not node.attr.startswith("__")), node.attr


def test_the_core_imports_neither_matplotlib_nor_widgets():
    for path in MODULES:
        pictures = ("figure", "plotting", "mosaic", "animation", "data_figure", "training_curves", "equal_work")
        if path.stem in (*pictures, "cli") or "widgets" in path.parts:
            continue
        names = {
            alias.name.split(".")[0] for n in ast.walk(tree_of(path)) if isinstance(n, ast.Import) for alias in n.names
        }
        names |= {(n.module or "").split(".")[0] for n in ast.walk(tree_of(path)) if isinstance(n, ast.ImportFrom)}
        assert not names & {"matplotlib", "ipywidgets", "IPython"}, path


def test_completion_shows_what_a_user_needs_and_no_more():
    assert dir(lateral) == sorted([*lateral.__all__, "__version__"])
    assert not {"fields", "checks", "static", "files", "engine"} & set(dir(lateral))
