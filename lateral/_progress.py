"""Long loops in chunks of equal size, so that one compilation serves all of them, with a progress bar between."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

SKIP = -1


def chunks(n: int, chunk_size: int, progress: bool, unit: str) -> Iterator[np.ndarray]:
    """The numbers 0..n-1 in arrays of `chunk_size`; the last one is filled up with `SKIP`."""
    chunk_size = min(chunk_size, n)
    with tqdm(total=n, unit=unit, disable=not progress) as bar:
        for first in range(0, n, chunk_size):
            numbers = np.arange(first, first + chunk_size, dtype=np.int32)
            numbers[numbers >= n] = SKIP
            yield numbers
            bar.update(int((numbers != SKIP).sum()))


def scan_chunk(one_step: Callable, carry, xs, active: Callable):
    """`jax.lax.scan` that passes over the entries of `xs` where `active(carry, x)` is false."""

    def skip(carry, x):
        record = jax.eval_shape(one_step, carry, x)[1]
        return carry, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), record)

    return jax.lax.scan(lambda carry, x: jax.lax.cond(active(carry, x), one_step, skip, carry, x), carry, xs)
