"""The shapes in the signatures are true: a part of the suite runs again with every one of them checked by beartype.

The second run is a process of its own, since the checks go in while `lateral` is imported, and it is compiled without
optimisation, since only shapes count. Tests marked `bad_input` break the signatures on purpose and stay out.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from lateral.step import euler_maruyama_step

TESTS = Path(__file__).parent
CHECKED = (
    "test_types.py",
    "test_numerics.py",
    "test_noise.py",
    "test_presets.py",
    "test_runs.py",
    "test_model.py",
    "test_dynamics.py::test_neighbour_mean_matches_plain_loops_on_any_leading_axes",
    "test_dynamics.py::test_simulation_matches_plain_euler_maruyama_in_single_precision",
    "test_dynamics.py::test_the_last_time_of_a_trajectory_is_the_final_state_and_every_skips",
    "test_dynamics.py::test_refinement_keeps_the_brownian_path",
    "test_utility.py::test_every_dtype_gives_the_same_utilities",
    "test_utility.py::test_information_matches_its_definitions_and_sums_to_the_utility",
    "test_utility.py::test_soft_utility_matches_a_plain_double_loop",
    "test_utility.py::test_hard_utility_works_under_jit_and_vmap",
    "test_utility.py::test_soft_fates_follow_the_logistic_function",
    "test_network.py::test_a_regulatory_function_takes_numbers_numpy_and_jax_of_any_shape",
    "test_network.py::test_tabulate_keeps_the_values_at_the_knots_and_takes_a_constant",
    "test_network.py::test_tanh_inhibition_is_its_formula_with_slope_5_and_amplitude_1",
    "test_evaluation.py::test_entropies_and_information_add_up",
    "test_evolution.py::test_history_is_sensible_and_the_settings_are_recorded",
    "test_evolution.py::test_elites_stay_as_they_are_and_only_they_are_mutated",
    "test_evolution.py::test_the_fitness_of_a_population_is_that_of_its_members",
    "test_backprop.py::test_training_is_the_loop_of_the_guide",
    "test_backprop.py::test_a_train_step_is_adam_written_by_hand",
)

checks_are_on = bool(os.environ.get("LATERAL_TYPECHECK"))


@pytest.mark.skipif(checks_are_on, reason="is the test that starts the second run")
def test_signatures_hold_when_beartype_checks_them():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    environment = os.environ | {"LATERAL_TYPECHECK": "1", "XLA_FLAGS": flags}
    selection = ["-m", "not bad_input and not slow", *(str(TESTS / name) for name in CHECKED)]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", *selection]
    result = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert " passed" in result.stdout


@pytest.mark.skipif(not checks_are_on, reason="needs the shape checks")
@pytest.mark.parametrize(
    ("states", "normals"), [(jnp.zeros(3), jnp.zeros(3)), (jnp.zeros((3, 2)), jnp.zeros((2, 3))), ([[0.0]], [[0.0]])]
)
def test_the_checks_refuse_what_the_signature_forbids(states, normals):
    from jaxtyping import TypeCheckError

    with pytest.raises(TypeCheckError):
        euler_maruyama_step(jnp.zeros_like, states, normals, 0.1, 0.1)
