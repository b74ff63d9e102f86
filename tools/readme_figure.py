"""Draw docs/overview.png (README.md) from a training run of a few seconds and docs/studio.png (docs/apps.md) from two.

python tools/readme_figure.py
"""

import time
from pathlib import Path

import jax
import numpy as np

import lateral
from lateral import plotting
from lateral.widgets import TrainingStudio

SEED = 0
DOCS = Path(__file__).parent.parent / "docs"


def overview() -> None:
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
    figure.savefig(DOCS / "overview.png", dpi=100)


def studio() -> None:
    """Where on the axis the noise is turned down depends on the speed of the machine."""
    app = TrainingStudio(method="evolution", learning_rate=0.3, n_replicates=50, n_epochs=150, seed=1)
    app.start()
    app.join()
    app.method.value, app.n_replicates.value, app.n_epochs.value = "score", 256, 400
    app.noise_strength.value = 0.16
    app.start()
    while app.last.get("epoch", 0) < 200 or app.last["state"] != "training":
        time.sleep(0.05)
    app.noise_strength.value = 0.1
    app.join()
    app.export(DOCS / "studio.png")
    print(app.text)


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    overview()
    studio()


if __name__ == "__main__":
    main()
