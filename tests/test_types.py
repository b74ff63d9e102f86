"""The shapes in the signatures are true: the whole suite runs with every one of them checked by beartype (conftest).

Here it is shown that the checks are on, and that they bite.
"""

import os

import jax.numpy as jnp
import pytest

import lateral
from lateral.tissue import euler_maruyama_step

pytestmark = pytest.mark.skipif(os.environ.get("LATERAL_TYPECHECK") == "0", reason="the checks were switched off")


@pytest.mark.parametrize(
    ("states", "normals"), [(jnp.zeros(3), jnp.zeros(3)), (jnp.zeros((3, 2)), jnp.zeros((2, 3))), ([[0.0]], [[0.0]])]
)
def test_the_checks_refuse_what_the_signature_forbids(states, normals):
    from jaxtyping import TypeCheckError

    with pytest.raises(TypeCheckError):
        euler_maruyama_step(jnp.zeros_like, states, normals, lateral.Tissue(n_cells=3))


@pytest.mark.bad_input
def test_where_bad_input_is_tried_lateral_speaks_for_itself():
    with pytest.raises(ValueError, match="key must be a random key, got 7"):
        lateral.compute_loss(1.0, lateral.Model(), 7)
