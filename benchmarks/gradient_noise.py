"""How much of one epoch's gradient is signal, and how far its mean is from the truth. Prints two Markdown tables.

    python benchmarks/gradient_noise.py          # several minutes on two cores

*Replicates*: for the tanh target written as a network with one unit, the norm of the mean gradient over 64
independent draws of noise, divided by the root mean square distance of one draw from that mean. Below 1, an epoch's
gradient points nowhere in particular. The seconds are those of one gradient, compiled.

*Estimators*: the derivative of the hard utility within the tissue by the amplitude of the tanh target, each estimated
from 256 tissues. Bias is the mean of 256 draws less the truth, a central difference of 10 percent over 400,000 tissues
on the same noise; it is given with its standard error, then the standard deviation of one draw.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp

import lateral

N_DRAWS = 64
TARGET = lateral.tanh_as_network()
NETWORK, PARAMS = TARGET.network, TARGET.params
ROWS = [("straight_through", 1000), ("bernoulli", 1000), ("bernoulli", 300), ("bernoulli", 100)]
REPLICATES = (10, 30, 50, 100, 256, 1000)
ESTIMATORS = {
    "`Pathwise()`": lateral.Pathwise(),
    "`Score(decay=0.5)`": lateral.Score(decay=0.5),
    "`Score(decay=0.8)`": lateral.Score(decay=0.8),
    "`Score()`, decay 0.95": lateral.Score(),
    "`Score(decay=1)`": lateral.Score(decay=1.0),
    "`ValueGradient(5)`": lateral.ValueGradient(5),
    "`ValueGradient()`, 20 windows": lateral.ValueGradient(),
    "`ValueGradient(50)`": lateral.ValueGradient(50),
    "`Combination()`": lateral.Combination(),
    "`FiniteDifferences(1)`": lateral.FiniteDifferences(1),
}
TISSUES = [(50, 0.1), (200, 0.1), (1000, 0.1), (200, 0.05), (200, 0.2)]  # steps, noise
N_ESTIMATES, STEP, N_TRUTH, N_ENSEMBLE = 256, 0.1, 20, 20_000


class Amplitude:
    """The tanh target with its amplitude as the one parameter."""

    def apply(self, params, s):
        return -params * jnp.tanh(5.0 * (s - 0.5))


def replicates() -> None:
    gradient = jax.jit(jax.grad(lateral.compute_loss))
    keys = jax.random.split(jax.random.key(0), N_DRAWS)
    print("| fates, steps | " + " | ".join(f"R = {n}" for n in REPLICATES) + " |")
    print("|---" * (len(REPLICATES) + 1) + "|")
    for relaxation, n_steps in ROWS:
        cells = []
        for n_replicates in REPLICATES:
            model = lateral.Model(network=NETWORK, n_knots=513)
            model = dataclasses.replace(model, relaxation=relaxation, n_steps=n_steps, n_replicates=n_replicates)
            jax.block_until_ready(gradient(PARAMS, model, keys[0]))
            start = time.perf_counter()
            draws = [jax.tree.leaves(gradient(PARAMS, model, key)) for key in keys]
            draws = jnp.stack([jnp.concatenate([leaf.ravel() for leaf in leaves]) for leaves in draws])
            seconds = (time.perf_counter() - start) / N_DRAWS
            mean = draws.mean(axis=0)
            noise = jnp.sqrt(jnp.mean(jnp.sum((draws - mean) ** 2, axis=1)))
            cells.append(f"{jnp.linalg.norm(mean) / noise:.2f} ({1000 * seconds:.0f} ms)")
        print(f"| {relaxation}, {n_steps} | " + " | ".join(cells) + " |", flush=True)


def estimators() -> None:
    columns, errors = [], []
    for n_steps, noise_strength in TISSUES:
        model = lateral.Model(
            network=Amplitude(),
            n_steps=n_steps,
            noise_strength=noise_strength,
            objective="tissue",
            relaxation="bernoulli",
            n_replicates=256,
        )
        large = dataclasses.replace(model, n_replicates=N_ENSEMBLE)
        slopes = []
        for key in jax.random.split(jax.random.key(1), N_TRUTH):
            (ahead, behind), _ = lateral.population_fitness(jnp.array([1.0 + STEP, 1.0 - STEP]), large, key)
            slopes.append((ahead - behind) / (2.0 * STEP))
        truth, error = jnp.mean(jnp.array(slopes)), jnp.std(jnp.array(slopes), ddof=1) / N_TRUTH**0.5
        errors.append(f"{truth:.3f} ± {error:.3f}")
        column = []
        for estimator in ESTIMATORS.values():
            one = jax.jit(lambda key, estimator=estimator, model=model: -estimator(jnp.array(1.0), model, key)[0])
            draws = jnp.array([one(key) for key in jax.random.split(jax.random.key(2), N_ESTIMATES)])
            spread = jnp.std(draws, ddof=1)
            of_bias = jnp.sqrt(spread**2 / N_ESTIMATES + error**2)
            column.append(f"{jnp.mean(draws) - truth:+.3f} ± {of_bias:.3f}, {spread:.3f}")
        columns.append(column)
    print("\n| bias ± error, spread | " + " | ".join(f"T = {n / 100:g}, σ = {noise:g}" for n, noise in TISSUES) + " |")
    print("|---" * (len(TISSUES) + 1) + "|")
    print("| truth | " + " | ".join(errors) + " |")
    for name, cells in zip(ESTIMATORS, zip(*columns, strict=True), strict=True):
        print(f"| {name} | " + " | ".join(cells) + " |")


def main() -> None:
    replicates()
    estimators()


if __name__ == "__main__":
    main()
