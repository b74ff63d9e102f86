"""Draw docs/overview.png, the figure of README.md, from a training run of a few seconds.

python tools/readme_figure.py
"""

from pathlib import Path

import jax
import numpy as np

import lateral
from lateral import plotting

SEED = 0


def main() -> None:
    random_key, train_key, tissue_key, test_key = jax.random.split(jax.random.key(SEED), 4)
    model, settings = lateral.preset("evolution")
    run = lateral.train_evolution(model, key=train_key, **settings)
    rules = {
        "random network": lateral.RegulatoryFunction(model.network, model.network.init(random_key)),
        "evolved network": run.regulatory_function,
    }
    tissue = dict(n_cells=15, n_replicates=1, n_steps=1000, dt=0.01, noise_strength=0.1, key=tissue_key, every=5)
    figure, axes = plotting.new_figure(3, width=13, height=3.4, width_ratios=(1, 1, 1.1))
    for ax, (name, rule) in zip(axes, rules.items(), strict=False):
        result = lateral.evaluate(rule, model, key=test_key)
        title = f"{name}: U = {abs(result.utility):.2f}, alternation {result.alternation:.2f}"
        plotting.plot_space_time(np.asarray(lateral.run_trajectories(rule, **tissue))[0], 0.05, title, ax=ax)
    plotting.plot_regulatory_functions(
        rules | {"tanh target": lateral.TanhInhibition()}, "The rule that every cell follows", ax=axes[2]
    )
    path = Path(__file__).parent.parent / "docs" / "overview.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
