"""Training of tissues whose patterns cannot be counted, by the lower bound of U: sheets and a long row.

    python benchmarks/sheets.py                  # three seeds of three tissues, in two ways
    python benchmarks/sheets.py --quick          # one seed and few epochs, to see it run
    python benchmarks/sheets.py --tissues row --by evolution    # five minutes on two cores

Each run starts from the best of random step rules, and goes on in one of two ways: by gradients through windows of time
(`lateral.ValueGradient`), of bumps that are fitted to the step rule; or by evolution of two step rules themselves,
whose edges are steeper (`lateral.train_islands`). The objective is the utility within the tissue. Hexagonal cells have
neighbours that are neighbours of each other, so that no pattern of theirs stays good with the fates swapped; the rules
for them are therefore not odd. Every utility is the lower bound of `lateral.bound_utility`, at the time step and at a
quarter of it, on fresh tissues that no training has seen; ± is the standard error over tissues.

Prints a Markdown table.
"""

import argparse
import sys
from collections.abc import Iterator

import jax
from tables import markdown

import lateral

TISSUES = {
    "hexagonal": ("hexagonal sheet, 6 x 6, periodic", lateral.Sheet(6, 6, kind="hexagonal", periodic=True), False),
    "square": ("square sheet, 8 x 8", lateral.Sheet(8, 8), True),
    "row": ("row of 64", lateral.Row(64), True),
}
RULES = {"tanh": lateral.TanhInhibition(), "dead band": lateral.DeadBand()}
SETTINGS = {
    "draw_from": "steps",
    "n_candidates": 2048,
    "n_restarts": 1,
    "n_exploration": 0,
    "gradient": lateral.ValueGradient(),
    "learning_rate": 0.2,
    "check_every": 25,
    "n_fresh": 1000,
}


EVOLUTION = {
    "n_candidates": 2048,
    "n_islands": 2,
    "n_settling": 4,
    "settling_divisors": (1,),
    "mutation_decay": 0.957,  # to 3 % of it in 80 generations
    "dt_divisors": (1,),
    "duration_shares": (1.0,),
}


def by_gradient(geometry, odd: bool, seed: int, quick: bool) -> lateral.RegulatoryFunction:
    model = model_of(geometry, lateral.RBFNetwork(odd=odd), 256)
    run = lateral.train_restarts(model, key=jax.random.key(seed), n_epochs=10 if quick else 200, **SETTINGS)
    return run.regulatory_function


def by_evolution(geometry, odd: bool, seed: int, quick: bool) -> lateral.RegulatoryFunction:
    model = model_of(geometry, lateral.StepNetwork(odd=odd, edge=0.003), 128)
    run = lateral.train_islands(model, key=jax.random.key(seed), n_generations=2 if quick else 80, **EVOLUTION)
    return run.regulatory_function


METHODS = {"gradient": by_gradient, "evolution": by_evolution}


def model_of(geometry, network, n_replicates: int) -> lateral.Model:
    return lateral.Model(network, geometry=geometry, n_replicates=n_replicates, objective="tissue")


def rules_of(geometry, odd: bool, options) -> Iterator:
    """Names and rules, one after another, as they are trained."""
    yield from RULES.items()
    for method in options.by:
        for seed in options.seeds:
            yield f"by {method}, seed {seed}", METHODS[method](geometry, odd, seed, options.quick)


def row(tissue: str, name: str, f, model: lateral.Model, n_replicates: int) -> list[str]:
    found = lateral.evaluate(f, model, key=jax.random.key(2**31), n_replicates=n_replicates)
    assert found.lower_bound or found.n_patterns <= n_replicates / 10
    bounds = (found.utility, found.utility_se), (found.utility_refined, found.utility_refined_se)
    cells = [tissue, name, *(f"{utility:.3f} ± {error:.3f}" for utility, error in bounds), f"{found.alternation:.2f}"]
    print(" | ".join(cells), file=sys.stderr, flush=True)
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tissues", nargs="+", choices=TISSUES, default=list(TISSUES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--by", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--replicates", type=int, default=4000, help="fresh tissues of each evaluation")
    parser.add_argument("--quick", action="store_true", help="one seed, a few epochs and 500 fresh tissues")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.replicates = [0], 500
    rows = []
    for tissue in options.tissues:
        name, geometry, odd = TISSUES[tissue]
        model = model_of(geometry, lateral.RBFNetwork(odd=odd), 256)
        rules = rules_of(geometry, odd, options)
        rows += [row(name, rule, f, model, options.replicates) for rule, f in rules]
    print(markdown(["tissue", "rule", "bound of U", "at dt/4", "alternation"], rows))


if __name__ == "__main__":
    main()
