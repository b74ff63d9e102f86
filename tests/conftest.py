"""How the tests run JAX.

The oracles are held in double precision with `jax_debug_nans` and `jax_debug_infs` on, so that what is not finite fails
where it is born. What users run is single precision: the fixture `float32` switches x64, and nothing else, off for one
test, and `precision` runs a test both ways. The functions of `lateral` (but for pictures and apps, whose numbers may be
of any kind) are held to the shapes and types of their signatures, and to JAX's strict promotion of ranks and types
(signatures.py), throughout the suite; tests marked `bad_input` break the signatures on purpose and run without, as all
do with LATERAL_TYPECHECK=0. LATERAL_LEAKS=1 looks for leaked tracers too, which takes several times as long.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import leaks
import notebook_numbers
import numpy as np
import pytest

PACKAGE = Path(__file__).parent.parent / "lateral"
UNCHECKED = (
    "__init__",
    "__main__",
    "__pycache__",
    "plotting",
    "mosaic",
    "animation",
    "data_figure",
    "figure",
    "equal_work",
    "lessons",
    "widgets",
)
if os.environ.get("LATERAL_TYPECHECK", "1") != "0":
    checked = {f"lateral.{path.stem}" for path in PACKAGE.iterdir() if path.stem not in UNCHECKED}
    jaxtyping.install_import_hook(sorted(checked), "signatures.checked")

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_debug_nans", True)
jax.config.update("jax_debug_infs", True)

# Tests run a few steps of what they compile, so that XLA's optimisers take longer than they save: without them a file
# takes half its time. What optimised code does is seen in notebooks, commands, documents and browsers, which are
# processes of their own; with XLA_FLAGS set, if only to nothing, all tests run as users do.
QUICK_COMPILATION = (
    "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = QUICK_COMPILATION
    jax.block_until_ready(jnp.zeros(1))  # reads the flags, once in a process
    del os.environ["XLA_FLAGS"]
    if cache := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", f"{cache}/quick")

notebook_numbers.install()

LONGEST_FIRST = (
    "test_browser",
    "05Back",
    "06Score",
    "test_grad",
    "test_widgets",
    "07The",
    "test_cli",
    "08Tis",
    "04Evo",
    "03Reg",
)


def pytest_collection_modifyitems(items):
    """Two processes share the files (`make test`); those that take long come first, so that both end together."""

    def place(item) -> int:
        return next((i for i, name in enumerate(LONGEST_FIRST) if name in item.path.name), len(LONGEST_FIRST))

    items.sort(key=place)  # stable: the tests of a file, and the cells of a notebook, keep their order


def pytest_terminal_summary(terminalreporter):
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    if any("no Chromium" in reason for reason in reasons):
        terminalreporter.write_line(
            "No Chromium was found: the tests in a browser (tests/test_browser.py) were skipped."
        )


@pytest.fixture(autouse=True)
def signatures_are_checked(request) -> Iterator[None]:
    """But for the tests that give what a signature forbids, to see what lateral itself says to it."""
    unchecked = request.node.get_closest_marker("bad_input") is not None
    jaxtyping.config.update("jaxtyping_disable", unchecked)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def leaks_are_looked_for() -> Iterator[None]:
    with leaks.looked_for() if os.environ.get("LATERAL_LEAKS", "0") != "0" else nullcontext():
        yield


@pytest.fixture(scope="module", autouse=True)
def what_a_file_compiled_is_dropped() -> Iterator[None]:
    """Or the processes of a whole run would hold gigabytes of code that is not run again."""
    yield
    jax.clear_caches()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def float32() -> Iterator[None]:
    """Single precision, as users run it."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(params=["float32", "float64"])
def precision(request) -> Iterator[str]:
    """The test runs in single and in double precision."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def nan_allowed() -> Iterator[None]:
    """For the tests of what happens when a number is not finite, in whatever thread."""
    for name in ("jax_debug_nans", "jax_debug_infs"):
        jax.config.update(name, False)
    yield
    for name in ("jax_debug_nans", "jax_debug_infs"):
        jax.config.update(name, True)


@pytest.fixture(scope="session")
def tanh_fates() -> np.ndarray:
    """Fates of 40,000 tissues that follow the tanh target, as users run it: in single precision."""
    from lateral import Model, TanhInhibition, apply_threshold
    from lateral.model import final_states

    with jax.enable_x64(False):
        return np.asarray(
            apply_threshold(final_states(TanhInhibition(), Model(n_replicates=40_000), jax.random.key(5)))
        )


class Counter:
    """A function that counts its calls; under `jax.jit` these are the traces."""

    def __init__(self, f: Callable):
        self.f = f
        self.calls = 0

    def __call__(self, *args):
        self.calls += 1
        return self.f(*args)

    @contextmanager
    def no_new_trace(self):
        before = self.calls
        yield
        assert self.calls == before, f"{self.calls - before} new traces"


@pytest.fixture
def count_traces() -> type[Counter]:
    """`counted = count_traces(f)`, then `counted.calls` and `with counted.no_new_trace():`."""
    return Counter


def _random_like(tree, seed: int = 0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(np.shape(leaf)), tree)


@pytest.fixture
def check_gradient() -> Callable:
    """Hold `jax.grad(f)(x)` to central finite differences along random directions, in double precision."""

    def check(f: Callable, x, *, step: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-9, n_directions: int = 2):
        value_and_gradient = jax.jit(jax.value_and_grad(f))
        gradient = value_and_gradient(x)[1]
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
        for seed in range(n_directions):
            direction = _random_like(x, seed)
            ahead, behind = (
                float(value_and_gradient(jax.tree.map(lambda a, d, s=sign: a + s * step * d, x, direction))[0])
                for sign in (1.0, -1.0)
            )
            products = jax.tree.map(lambda g, d: float(np.vdot(g, d)), gradient, direction)
            predicted = sum(jax.tree.leaves(products))
            np.testing.assert_allclose(predicted, (ahead - behind) / (2.0 * step), rtol=rtol, atol=atol)
        return gradient

    return check
