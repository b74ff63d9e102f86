"""The pictures behind the sliders of notebooks 06 and 07 show what they say."""

import re

import jax
import numpy as np
import pytest

import lateral
from lateral.lessons import draw_push, draw_waiting

pytestmark = pytest.mark.usefixtures("float32")


@pytest.mark.parametrize("mean", [-0.1, 0.0, 0.2])
def test_the_estimate_from_fates_agrees_with_the_derivative_of_their_share(mean):
    """The share is the normal distribution function of mean / 0.1, which is differenced here."""
    left, right = draw_push(mean, 0.5).axes
    share = float(re.search(r"(\d+)%", left.get_title())[1]) / 100
    cdf = jax.scipy.stats.norm.cdf
    assert share == pytest.approx(float(cdf(mean / 0.1)), abs=0.02)
    estimate, error, exact = map(float, re.findall(r"\d+\.\d+", right.get_title()))
    slope = (cdf((mean + 1e-3) / 0.1) - cdf((mean - 1e-3) / 0.1)) / 2e-3
    assert exact == pytest.approx(float(slope), abs=0.01)
    assert abs(estimate - exact) < 4 * error


def test_the_baseline_one_half_scatters_least_at_mean_zero():
    errors = [float(re.findall(r"± (\d+\.\d+)", draw_push(0.0, b).axes[1].get_title())[0]) for b in (0.0, 0.5, 1.0)]
    assert errors[1] < 0.6 * min(errors[0], errors[2])


@pytest.mark.slow
def test_waiting_is_drawn_from_the_same_tissues_as_the_package_simulates():
    _, right = draw_waiting(0.12, 0.1).axes
    walls, undecided = (bars.lines[0].get_ydata() for bars in right.containers)
    assert undecided[0] == 1.0 and undecided[-1] < 0.1, "all start between 0.4 and 0.6"
    states = lateral.run_multiple_replicates(
        lateral.tabulate(lateral.DeadBand(0.12)),
        n_cells=7,
        n_replicates=3000,
        noise_strength=0.1,
        key=jax.random.key(6),
    )
    fates = np.asarray(lateral.apply_threshold(states))
    assert walls[-1] == pytest.approx(np.mean((fates[:, 1:] != fates[:, :-1]).all(axis=1)), abs=1e-6)
