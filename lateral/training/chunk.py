"""A few steps of an algorithm: compiled as one call, or each shared by threads.

The driver decides which. Both take the same steps, to the last bit.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lateral.fields import setting_names
from lateral.static import in_parts, joined, n_entries
from lateral.threads import in_threads, n_shares

__all__ = ["SKIP", "run_chunk", "run_in_shares"]

SKIP = -1


@jax.jit
def run_chunk(carry, algorithm, model, key, numbers):
    """The steps of one chunk; the size of its cache tells how often something was compiled."""

    def one_step(carry, now):
        of_now, model_now = _at(algorithm, model, now)
        return _taken(carry, now, *of_now.step(carry[0], model_now, jax.random.fold_in(key, now["step"])))

    def skip(carry, now):
        record = jax.eval_shape(one_step, carry, now)[1]
        return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), record)

    def active(carry, now):
        return (now["step"] >= 0) & carry[2]

    return jax.lax.scan(lambda carry, now: jax.lax.cond(active(carry, now), one_step, skip, carry, now), carry, numbers)


def run_in_shares(carry, algorithm, model, key, numbers):
    """The same, to the last bit, for a `PopulationAlgorithm`: step by step, each of them shared by threads."""
    n_parts, records = n_shares(algorithm.work(model)), []
    for i in np.flatnonzero(numbers["step"] != SKIP):
        now = {name: values[i] for name, values in numbers.items()}
        population, shares, its_key = _bred(carry, algorithm, model, key, now, n_parts)
        fates = in_threads([partial(_fates, algorithm, model, now, share, its_key) for share in shares])
        carry, record = _chosen(carry, algorithm, model, now, population, fates)
        records.append(record)
        if not record["good"]:
            break
    return carry, {name: np.stack([record[name] for record in records]) for name in records[0]}


@partial(jax.jit, static_argnames="n_parts")
def _bred(carry, algorithm, model, key, now, n_parts):
    """The population, the same in parts, and the key of its tissues."""
    population, key = _at(algorithm, model, now)[0].breed(carry[0], jax.random.fold_in(key, now["step"]))
    return population, in_parts(population, n_parts), key


@jax.jit
def _fates(algorithm, model, now, population, key):
    algorithm, model = _at(algorithm, model, now)
    return algorithm.fates(population, model, key)


@jax.jit
def _chosen(carry, algorithm, model, now, population, fates):
    algorithm, model = _at(algorithm, model, now)
    fates = joined(fates, n_entries(population))
    return _taken(carry, now, *algorithm.choose(carry[0], population, fates, model))


def _at(algorithm, model, now):
    """Both with the numbers of this step."""
    own, changes = setting_names(type(algorithm)), {name: now[name] for name in now if name != "step"}
    of_algorithm = {name: changes[name] for name in changes if name in own}
    of_model = {name: changes[name] for name in changes if name not in own}
    return algorithm.changed(**of_algorithm), model.changed(**of_model)


def _taken(carry, now, new, record):
    """A step that is not finite is not taken."""
    state, before, _ = carry
    good = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(record)]))
    state, before = jax.tree.map(lambda new, old: jnp.where(good, new, old), (new, state), (state, before))
    return (state, before, good), record | {name: now[name] for name in now if name != "step"} | {"good": good}
