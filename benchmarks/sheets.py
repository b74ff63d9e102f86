"""Training of tissues whose patterns cannot be counted, by the lower bound of U: sheets and a long row.

    python benchmarks/sheets.py                  # three seeds of three tissues, half an hour on two cores
    python benchmarks/sheets.py --quick          # one seed and few epochs, to see it run
    python benchmarks/sheets.py --tissues hexagonal --seeds 0 1 2 3 4

Each run starts from the best of random step rules (`draw_from="steps"`), and goes on by gradients through windows of
time (`lateral.ValueGradient`); the objective is the utility within the tissue. Hexagonal cells have neighbours that
are neighbours of each other, so that no pattern of theirs stays good with the fates swapped; the rules for them are
therefore not odd. Every utility is the lower bound of `lateral.bound_utility`, at the time step and at a quarter of it,
on fresh tissues that no training has seen; ± is the standard error over tissues.

Prints a Markdown table.
"""

import argparse
import sys

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


def model_of(geometry, odd: bool) -> lateral.Model:
    return lateral.Model(lateral.RBFNetwork(odd=odd), geometry=geometry, n_replicates=256, objective="tissue")


def trained(model: lateral.Model, seed: int, n_epochs: int) -> lateral.RegulatoryFunction:
    run = lateral.train_restarts(model, key=jax.random.key(seed), n_epochs=n_epochs, **SETTINGS)
    return run.regulatory_function


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
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=4000, help="fresh tissues of each evaluation")
    parser.add_argument("--quick", action="store_true", help="one seed, ten epochs and 500 fresh tissues")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs, options.replicates = [0], 10, 500
    rows = []
    for tissue in options.tissues:
        name, geometry, odd = TISSUES[tissue]
        model = model_of(geometry, odd)
        rules = RULES | {f"trained, seed {seed}": None for seed in options.seeds}
        for rule, seed in zip(rules, [None] * len(RULES) + options.seeds, strict=True):
            f = RULES[rule] if seed is None else trained(model, seed, options.epochs)
            rows.append(row(name, rule, f, model, options.replicates))
    print(markdown(["tissue", "rule", "bound of U", "at dt/4", "alternation"], rows))


if __name__ == "__main__":
    main()
