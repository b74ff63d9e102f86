"""How fast the engine is, beside plain JAX, diffrax, Numba and NumPy in the same process.

    make bench         # everything; writes benchmarks/speed.json, docs/speed.png and the tables of docs/measured.md
    make bench-quick   # the main rows; prints only
    python benchmarks/speed.py --only geometries    # sheets and graphs beside rows, two minutes
    python benchmarks/speed.py --only cores         # all cores beside one, two minutes; the rest stays as stored
    python benchmarks/speed.py --only recipes       # whole trainings beside each other, twelve minutes

Rounds alternate between all contestants of a row, and a ratio is taken within its round, so that whatever else slows
the machine slows both. Reported: the median ratio, and in brackets the smallest and largest. Compilation is left out
and stored on its own. A contestant that would need more than 4 GiB is not run; one that would take long takes fewer
steps: what counts is cell updates (cells times replicates times steps) a second.
"""

import argparse
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peers
import tables
from stored import save_json

import lateral
from lateral.network import locate, take
from lateral.plotting import new_figure
from lateral.presets import trainer
from lateral.threads import VARIABLE, in_threads
from lateral.training.driver import Training

HERE = Path(__file__).parent
FIGURE = HERE.parent / "docs" / "speed.png"
KEY = jax.random.key(0)
TISSUE = dict(dt=peers.DT, noise_strength=peers.NOISE_STRENGTH)
NETWORK, TANH = lateral.MLP(max_rate=5.0), lateral.TanhInhibition()
MAX_BYTES = 4 * 2**30
MAX_SECONDS = 4.0  # of one call; slower contestants take fewer steps
PER_SECOND = {"NumPy": 8e6, "plain JAX": 20e6, "diffrax, unsafe path": 15e6, "diffrax, virtual tree": 2e6}
SIZES = [(50, 7), (1000, 7), (20_000, 7), (50, 64), (1000, 64), (20_000, 64), (50, 1024), (1000, 1024), (20_000, 1024)]


class Contestant:
    """One way to do a piece of work; `seconds()` times it once and returns seconds for each unit of work."""

    def __init__(self, name: str, call: Callable[[int], object], work: float = 1.0):
        self.name, self.call, self.work = name, call, work
        start = time.perf_counter()
        jax.block_until_ready(call(0))
        self.first = time.perf_counter() - start
        start = time.perf_counter()
        jax.block_until_ready(call(0))
        self.compile_seconds = self.first - (time.perf_counter() - start)

    def seconds(self, seed: int) -> float:
        start = time.perf_counter()
        jax.block_until_ready(self.call(seed))
        return (time.perf_counter() - start) / self.work


def compare(contestants: list[Contestant], rounds: int) -> dict:
    """Times of all in alternating rounds; ratios to the first."""
    times = np.array([[c.seconds(seed) for c in contestants] for seed in range(1, rounds + 1)])
    row = {}
    for i, contestant in enumerate(contestants):
        ratios = times[:, i] / times[:, 0]
        row[contestant.name] = {
            "seconds": float(np.median(times[:, i])),
            "ratio": [float(q) for q in (np.median(ratios), ratios.min(), ratios.max())],
            "compile_seconds": round(contestant.compile_seconds, 3),
        }
    return row


def n_steps_for(n_replicates: int, n_cells: int) -> int:
    return int(np.clip(2e7 / (n_replicates * n_cells), 20, 1000))


def forward(n_replicates: int, n_cells: int, rounds: int, names: tuple[str, ...] | None = None) -> dict:
    """Seconds for each cell update of a simulation with a network of (8, 8) units."""
    params = NETWORK.init(KEY)
    f, key = lateral.RegulatoryFunction(NETWORK, params), jax.random.key
    values = np.asarray(lateral.tabulate(f).values)
    n_steps = n_steps_for(n_replicates, n_cells)

    def ours(seed, n_steps):
        sizes = dict(n_cells=n_cells, n_replicates=n_replicates, n_steps=n_steps)
        return lateral.run_multiple_replicates(f, key=key(seed), **sizes, **TISSUE)

    def without_noise(seed, n_steps):
        pairs = jnp.full((n_cells, n_replicates // 2), (0.4 + 1e-3 * seed) * (1 + 1j), jnp.complex64)
        return _bound(peers.DT * values, pairs, n_steps)

    ways = {
        "lateral": ours,
        "plain JAX": lambda seed, n: peers.plain_jax(params, key(seed), n_cells, n_replicates, n),
        "diffrax, unsafe path": lambda seed, n: peers.with_diffrax(params, key(seed), n_cells, n_replicates, n, False),
        "diffrax, virtual tree": lambda seed, n: peers.with_diffrax(params, key(seed), n_cells, n_replicates, n, True),
        "Numba, addressed noise": lambda seed, n: peers.with_numba_addressed(values, seed, n_cells, n_replicates, n),
        "Numba, noise with a state": lambda seed, n: peers.with_numba(values, seed, n_cells, n_replicates, n),
        "NumPy": lambda seed, n: peers.with_numpy(params, seed, n_cells, n_replicates, n),
        "table without noise (bound)": without_noise,
    }
    updates, contestants, left_out = n_cells * n_replicates, [], {}
    for name, way in ways.items():
        if names is not None and name not in names:
            continue
        if name in PER_SECOND:
            # Activities of a layer of eight units, before and after tanh, and random bits, all at once.
            needed = 4 * updates * 8 * 3
            if needed > MAX_BYTES:
                left_out[name] = f"not run: {needed / 2**30:.0f} GiB"
                continue
        steps = (
            min(n_steps, int(PER_SECOND.get(name, np.inf) * MAX_SECONDS / updates)) if name in PER_SECOND else n_steps
        )
        if steps < 3:
            left_out[name] = "not run: 3 steps take over 4 s"
            continue
        contestants.append(Contestant(name, lambda seed, way=way, steps=steps: way(seed, steps), updates * steps))
    return compare(contestants, rounds) | left_out


@partial(jax.jit, static_argnums=2)
def _bound(increments, pairs, n_steps):
    """The loop of the engine with everything but its noise: pairs of replicates, and f dt looked up in a table."""
    rises, row = increments[1:] - increments[:-1], lateral.Row(pairs.shape[0])

    def moved(states, neighbours):
        knot, weight = locate(increments, neighbours)
        return jnp.clip(states + take(increments, knot) + weight * take(rises, knot), 0.0, 1.0)

    def step(carry, _):
        pairs, neighbours = carry
        pairs = jax.lax.complex(moved(pairs.real, neighbours.real), moved(pairs.imag, neighbours.imag))
        return (pairs, row.linear(pairs)), None

    return jax.lax.scan(step, (pairs, row.linear(pairs)), None, length=n_steps)[0][0]


def _epoch(name: str, n_replicates: int, hidden_dims=(8, 8), work: float = 1.0) -> Contestant:
    """One training epoch (loss, gradient, Adam) of our own; the literal loss of the guide."""
    network = lateral.MLP(hidden_dims, max_rate=5.0)
    params = network.init(KEY)
    opt_state, model = peers.ADAM.init(params), lateral.Model(network=network, n_replicates=n_replicates)
    train_step = lateral.make_train_step(peers.ADAM)
    return Contestant(name, lambda seed: train_step(params, opt_state, model, jax.random.key(seed)), work)


def epoch(n_replicates: int, rounds: int) -> dict:
    """Seconds of one training epoch for each replicate, beside plain autodiff of 50."""
    params = NETWORK.init(KEY)
    opt_state = peers.ADAM.init(params)

    def plain(seed):
        return peers.plain_epoch(params, opt_state, jax.random.key(seed), 7, 50, 1000)

    ours = _epoch("lateral", n_replicates, work=n_replicates)
    return compare([ours, Contestant("plain autodiff", plain, 50)], rounds)


def widths(rounds: int) -> dict:
    """One epoch (R = 50) with networks of growing size, as ratios to (8, 8)."""
    return compare([_epoch(str(dims), 50, dims) for dims in ((8, 8), (64, 64), (256, 256))], rounds)


def generation(rounds: int) -> dict:
    """Seconds to score 20 networks on 50 replicates."""
    population = jax.vmap(NETWORK.init)(jax.random.split(KEY, 20))
    one_by_one = [jax.tree.map(lambda x, i=i: x[i], population) for i in range(20)]
    model = lateral.Model(network=NETWORK)

    def plain(seed):
        key = jax.random.key(seed)
        return [peers.plain_score(params, key, 7, 50, 1000) for params in one_by_one]

    ours = Contestant("lateral", lambda seed: lateral.population_fitness(population, model, jax.random.key(seed)))
    return compare([ours, Contestant("plain JAX, one at a time", plain)], rounds)


def cores(rounds: int) -> dict:
    """Seconds of what threads share, beside one thread alone."""
    model = lateral.Model(network=NETWORK)
    strategy = lateral.EvolutionStrategy()
    rules = jax.vmap(NETWORK.init)(jax.random.split(KEY, 64))
    few = model.changed(n_replicates=64)

    training = Training(strategy, model, strategy.init(NETWORK, KEY), KEY)

    def simulated(n_replicates, seed):
        sizes = dict(n_cells=7, n_replicates=n_replicates, n_steps=1000)
        return lateral.run_multiple_replicates(TANH, key=jax.random.key(seed), **sizes, **TISSUE)

    def two(seed):
        return in_threads([partial(simulated, 20_000, seed), partial(simulated, 20_000, -seed)])

    def alone(call):
        def run(seed):
            os.environ[VARIABLE] = "1"
            try:
                return jax.block_until_ready(call(seed))
            finally:
                del os.environ[VARIABLE]

        return run

    ways = {f"one simulation, R = {n:,}, N = 7": partial(simulated, n) for n in (50, 1000, 5000, 20_000)} | {
        "two simulations that share nothing, R = 20,000": two,
        "ten generations of evolution, 20 networks on 50 replicates": lambda seed: training.advance(10, {}, 10),
        "scores of 64 networks on 64 replicates": lambda seed: lateral.population_fitness(
            rules, few, jax.random.key(seed)
        ),
    }
    return {
        name: compare([Contestant("all cores", call), Contestant("one core", alone(call))], rounds)
        for name, call in ways.items()
    }


def recipes(rounds: int) -> dict:
    """Seconds of whole trainings beside exploration."""

    def training(method: str, preset: str, seed: int):
        model, settings = lateral.preset(method, preset)
        return trainer(method, preset)(model, key=jax.random.key(seed), **settings).params

    ways = {
        "train score --preset exploration": ("score", "exploration"),
        "train score": ("score", "recipe"),
        "train backprop": ("backprop", "recipe"),
        "train evolution": ("evolution", "recipe"),
    }
    return compare([Contestant(name, partial(training, *which)) for name, which in ways.items()], rounds)


def geometries(rounds: int) -> dict:
    """Seconds for each cell update of sheets and graphs (six neighbours; any) beside a row of as many cells."""
    rows = {}

    def simulate(seed, **tissue):
        return lateral.run_multiple_replicates(lateral.TanhInhibition(), key=jax.random.key(seed), **tissue, **TISSUE)

    for side, n_replicates in ((8, 50), (8, 1000), (20, 200), (20, 1000), (100, 50)):
        n_cells = side**2
        hexagons = lateral.Sheet(side, side, kind="hexagonal", periodic=True)
        tissues = {
            "row": lateral.Row(n_cells),
            "squares": lateral.Sheet(side, side),
            "squares, periodic": lateral.Sheet(side, side, periodic=True),
            "hexagons": lateral.Sheet(side, side, kind="hexagonal"),
            "hexagons, periodic": hexagons,
            "graph of the same": lateral.Graph.from_edges(hexagons.pairs, n_cells=n_cells),
            "Voronoi": lateral.voronoi_tissue(n_cells, key=KEY),
        }
        n_steps = n_steps_for(n_replicates, n_cells)
        of_each = partial(simulate, n_replicates=n_replicates, n_steps=n_steps)
        contestants = [
            Contestant(name, partial(of_each, geometry=geometry), n_cells * n_replicates * n_steps)
            for name, geometry in tissues.items()
        ]
        rows[f"{side} × {side} cells, R = {n_replicates:,}"] = compare(contestants, rounds)
    return rows


def growth(rounds: int) -> dict:
    """Nanoseconds for each cell update as R, N and S grow, forward and with a gradient, and bytes of the gradient."""
    table = lateral.tabulate(lateral.TanhInhibition())

    def simulate(n_replicates, n_cells, n_steps, seed):
        return lateral.run_multiple_replicates(
            table, n_cells=n_cells, n_replicates=n_replicates, n_steps=n_steps, key=jax.random.key(seed), **TISSUE
        )

    def gradient_of(n_replicates, n_cells, n_steps, recompute_every=None):
        settings = dict(n_cells=n_cells, n_replicates=n_replicates, n_steps=n_steps, recompute_every=recompute_every)

        def value(values, key):
            states = lateral.run_multiple_replicates(lateral.Table(values), key=key, **settings, **TISSUE)
            return jnp.mean(jax.nn.sigmoid((states - 0.45) / 0.1) ** 2)

        return jax.jit(jax.grad(value))

    cases = {
        "R": [(r, 7, 200) for r in (50, 200, 1500, 3000, 6000, 12_000, 24_000, 50_000, 100_000)],
        "N": [(1000, n, 200) for n in (3, 7, 16, 32, 64, 128, 256, 512, 1024)],
        "S": [(2000, 7, s) for s in (100, 200, 500, 1000, 2000, 5000)],
    }
    rows = {}
    for axis, sizes in cases.items():
        runs = [Contestant(str(s), lambda seed, s=s: simulate(*s, seed), np.prod(s)) for s in sizes]
        times = np.array([[run.seconds(seed) for run in runs] for seed in range(rounds)])
        rows[axis] = {str(s): 1e9 * float(t) for s, t in zip(sizes, np.median(times, axis=0), strict=True)}
    rows["gradient"] = {}
    for sizes in ((50, 7, 1000), (1000, 7, 1000), (1000, 64, 200), (4000, 7, 500), (1000, 7, 1000, 32)):
        gradient = gradient_of(*sizes)
        run = Contestant(str(sizes), lambda seed, g=gradient: g(table.values, jax.random.key(seed)), np.prod(sizes[:3]))
        memory = gradient.lower(table.values, KEY).compile().memory_analysis()
        rows["gradient"][str(sizes)] = {
            "ns": 1e9 * float(np.median([run.seconds(seed) for seed in range(rounds)])),
            "bytes": memory.temp_size_in_bytes / float(np.prod(sizes[:3])),
        }
    return rows


def knots(seeds: int = 10) -> dict:
    """Largest error of f, and relative error of the gradient of the network, against exact evaluation."""
    rows = {}
    x = jnp.linspace(0.0, 1.0, 20_001)
    model = lateral.Model(network=NETWORK, n_replicates=50, relaxation="bernoulli", n_steps=100)

    @partial(jax.jit, static_argnums=2)
    def flat_gradient(params, key, n_knots):
        changed = jax.tree.leaves(
            jax.grad(lateral.compute_loss)(params, dataclasses.replace(model, n_knots=n_knots), key)
        )
        return jnp.concatenate([leaf.ravel() for leaf in changed])

    for n_knots in (33, 129, 513, 2049):
        errors = []
        for seed in range(seeds):
            params, key = NETWORK.init(jax.random.key(seed)), jax.random.key(100 + seed)
            f = lateral.RegulatoryFunction(NETWORK, params)
            exact = flat_gradient(params, key, None)
            difference = jnp.linalg.norm(flat_gradient(params, key, n_knots) - exact) / jnp.linalg.norm(exact)
            errors.append((float(jnp.abs(lateral.tabulate(f, n_knots)(x) - f(x)).max()), float(difference)))
        worst_f, _ = np.max(errors, axis=0)
        rows[n_knots] = {"f": float(worst_f), "gradient": float(np.median(np.array(errors)[:, 1]))}
    return rows


# --- what is printed and written


def draw(results: dict):
    rows = results["forward"]
    times_plain = [row["plain JAX"]["ratio"][0] for row in rows.values() if isinstance(row.get("plain JAX"), dict)]
    figure, axes = new_figure(width=10.0, height=4.0)
    names = {name for row in rows.values() for name in row} - {"lateral"}
    for marker, name in zip("osD^vPX", sorted(names), strict=False):
        speeds = [1e-6 / row[name]["seconds"] if isinstance(row.get(name), dict) else np.nan for row in rows.values()]
        axes.plot(speeds, marker + ":", label=name, alpha=0.8)
    axes.plot([1e-6 / row["lateral"]["seconds"] for row in rows.values()], "k*-", markersize=11, label="lateral")
    axes.set(
        yscale="log",
        ylabel="million cell updates a second",
        title=f"One simulation: {min(times_plain):.0f} to {max(times_plain):.0f} times the speed of plain JAX",
        xticks=range(len(rows)),
    )
    axes.set_xticklabels([size.replace(", N", "\nN") for size in rows], fontsize=8)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(FIGURE, dpi=120)


# What can be measured by itself, and in how many rounds.
ALONE = {"geometries": (geometries, 11), "cores": (cores, 11), "recipes": (recipes, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="main rows and few rounds; print, write nothing")
    parser.add_argument("--only", choices=ALONE, help="these alone; the rest stays as stored")
    options = parser.parse_args()
    if options.only:
        measure, rounds = ALONE[options.only]
        results = json.loads(tables.SPEED.read_text()) | {options.only: measure(rounds)}
        print(getattr(tables, options.only)(results))
        save_json(tables.SPEED, results)
        tables.write_tables("benchmarks/speed.py")
        return
    quick = options.quick
    rounds = 3 if quick else 5
    results = {
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "device": jax.devices()[0].platform,
            **{module.__name__: module.__version__ for module in (jax, np, optax, peers.numba, peers.diffrax)},
        },
        "forward": {},
    }
    for n_replicates, n_cells in SIZES[:3] if quick else SIZES:
        size = f"R = {n_replicates:,}, N = {n_cells:,}"
        results["forward"][size] = forward(n_replicates, n_cells, rounds)
        print(size, json.dumps(results["forward"][size]), flush=True)
    results["training"] = {
        "one epoch, R = 50 (per replicate the same)": epoch(50, rounds),
        "one epoch, R = 1,000 (per replicate, plain at R = 50)": epoch(1000, rounds),
        "one generation of evolution, 20 networks on 50 replicates": generation(rounds),
    }
    results["widths"] = widths(rounds)
    if not quick:
        results["growth"], results["knots"] = growth(5), knots()
        results |= {name: measure(rounds) for name, (measure, rounds) in ALONE.items()}
    for name in ("training", "widths", "growth", "knots", *ALONE):
        if name in results:
            print(name, json.dumps(results[name], indent=1), flush=True)
    print(tables.speed(results))
    if not quick:
        save_json(tables.SPEED, results)
        draw(results)
        tables.write_tables("benchmarks/speed.py")


if __name__ == "__main__":
    main()
