"""How much of one epoch's gradient is signal, against the number of replicates and the length of the simulation.

    python benchmarks/gradient_noise.py          # about a minute on two cores

For the tanh target written as a network with one unit: the norm of the mean gradient over 64 independent draws of
noise, divided by the root mean square distance of one draw from that mean. Below 1, an epoch's gradient points nowhere
in particular. The seconds are those of one gradient, compiled. Prints a Markdown table.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp

import lateral

N_DRAWS = 64
NETWORK = lateral.MLP(hidden_dims=(1,), input_scale=5.0)
PARAMS = (
    {"weights": jnp.array([[1.0]]), "biases": jnp.zeros(1)},
    {"weights": jnp.array([[-1.0]]), "biases": jnp.zeros(1)},
)
ROWS = [("straight_through", 1000), ("bernoulli", 1000), ("bernoulli", 300), ("bernoulli", 100)]
REPLICATES = (10, 30, 50, 100, 256, 1000)


def main() -> None:
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


if __name__ == "__main__":
    main()
