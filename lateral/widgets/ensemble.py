"""An explorer of the utility: an ensemble of patterns is put together and read off (notebook 02)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

import lateral
from lateral import plotting
from lateral.numerics import binary_entropy, entropy
from lateral.widgets.base import Explorer, Picture
from lateral.widgets.controls import choice, seed_field, slider
from lateral.widgets.explorers import describe, score
from lateral.widgets.export import cell_columns

__all__ = ["UtilityExplorer"]

N_CELLS = 7
ALL_PATTERNS = (np.arange(2**N_CELLS)[:, None] >> np.arange(N_CELLS)[::-1]) & 1


class UtilityExplorer(Explorer):
    """Compose an ensemble of patterns and read off what it is worth (notebook 02).

    Seven cells. Each tissue takes one of the patterns with a chance in proportion to its weight, then each cell is
    flipped with the chance `flips`. The utility of such an ensemble is known exactly, by enumeration of the 128
    patterns, so that the picture also shows what too few replicates and soft fates make of it.

    Args:
        **start: initial values of controls: `alternating`, `mirrored`, `all_on`, `all_off`, `halves`, `scrambled`
            (weights), `flips`, `n_replicates`, `soft_width`, `bandwidth`, `seed`.
    """

    PATTERNS: Mapping[str, Sequence[int]] = {
        "alternating": (0, 1, 0, 1, 0, 1, 0),
        "mirrored": (1, 0, 1, 0, 1, 0, 1),
        "all_on": (1, 1, 1, 1, 1, 1, 1),
        "all_off": (0, 0, 0, 0, 0, 0, 0),
        "halves": (0, 0, 0, 1, 1, 1, 1),
    }
    SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000)
    SPREAD = 0.05  # by how much a state misses 0 or 1
    N_ABOVE, PLAIN_AXES = 2, True
    LAYOUT: Mapping[str, Any] = {"n_panels": 3, "width": 9.2, "height": 3.0, "width_ratios": (0.8, 1.6, 1.1)}

    def __init__(
        self,
        *,
        flips: float = 0.02,
        n_replicates: int = 200,
        soft_width: float = 0.1,
        bandwidth: float = 0.3,
        seed: int = 0,
        **weights,
    ):
        names = (*self.PATTERNS, "scrambled")
        weights = {"alternating": 1.0, "mirrored": 0.4} | weights
        if unknown := weights.keys() - set(names):
            settings = (*names, "flips", "n_replicates", "soft_width", "bandwidth", "seed")
            raise ValueError(f"UtilityExplorer has no setting {min(unknown)!r}: choose among {', '.join(settings)}")
        labels = {name: "".join("□■"[z] for z in pattern) for name, pattern in self.PATTERNS.items()}
        labels["scrambled"] = "fair coins"
        super().__init__(
            self._picture,
            sizes=("n_replicates",),
            groups={
                "Patterns, by weight": names,
                "Tissues": ("flips", "n_replicates", "seed"),
                "Soft estimates": ("soft_width", "bandwidth"),
            },
            **{name: slider(0.0, 1.0, weights.get(name, 0.0), 0.05, label=labels[name], name=name) for name in names},
            flips=slider(0.0, 0.5, flips, 0.01, label="flips (per cell)", name="flips"),
            soft_width=slider(0.01, 1.0, soft_width, log=True, label="soft width (state)", name="soft_width"),
            bandwidth=slider(0.01, 1.0, bandwidth, log=True, label="bandwidth (state)", name="bandwidth"),
            n_replicates=choice(self.SIZES, n_replicates, label="replicates R", name="n_replicates"),
            seed=seed_field(seed),
        )

    @classmethod
    def distribution(cls, weights: Mapping[str, float], flips: float) -> np.ndarray:
        """The probabilities of the 128 patterns, the first cell as the highest bit."""
        total = sum(weights.values())
        if not total > 0.0:
            raise ValueError("all weights are 0: give at least one pattern a weight")
        probabilities = np.full(len(ALL_PATTERNS), weights.get("scrambled", 0.0) / len(ALL_PATTERNS))
        for name, pattern in cls.PATTERNS.items():
            n_flipped = (np.array(pattern) != ALL_PATTERNS).sum(axis=1)
            chance = flips**n_flipped * (1.0 - flips) ** (N_CELLS - n_flipped)
            probabilities += weights.get(name, 0.0) * chance
        return probabilities / total

    @staticmethod
    def information(probabilities) -> dict[str, np.ndarray]:
        """Entropies, information and U of distributions `(..., 128)`, all in bits per cell."""
        s_rep = np.asarray(entropy(jnp.asarray(probabilities), axis=-1)) / N_CELLS
        on = probabilities @ ALL_PATTERNS  # of each cell
        s_pat = np.asarray(binary_entropy(jnp.asarray(on.mean(axis=-1))))
        of_cells = np.asarray(binary_entropy(jnp.asarray(on))).mean(axis=-1)
        return {
            "s_pat": s_pat,
            "s_rep": s_rep,
            "positional": s_pat - of_cells,
            "correlational": of_cells - s_rep,
            "utility": s_pat - s_rep,
        }

    def _picture(self, *, flips, n_replicates, soft_width, bandwidth, seed, **weights) -> Picture:
        probabilities = self.distribution(weights, flips)
        exact = self.information(probabilities)
        rng = np.random.default_rng(seed)
        fates = ALL_PATTERNS[rng.choice(len(probabilities), n_replicates, p=probabilities)]
        misses = np.abs(rng.normal(0.0, self.SPREAD, fates.shape))
        states = np.clip(np.abs(fates - misses), 0.0, 1.0).astype(np.float32)
        hard = score(fates)
        soft_fates = lateral.soften_fates(states, soft_width)
        rows = {
            "exact (R → ∞)": list(exact.values()),
            f"hard, R = {n_replicates}": [hard.s_pat, hard.s_rep, hard.positional_information,
                                          hard.correlational_information, hard.utility],
            "soft, kernel": _soft_row(lateral.compute_soft_utility(soft_fates, bandwidth)),
            "soft, Bernoulli": _soft_row(lateral.compute_bernoulli_utility(soft_fates)),
        }  # fmt: skip
        ensembles = [rng.multinomial(size, probabilities, size=40) / size for size in self.SIZES]
        scatter = self.information(np.array(ensembles))["utility"]

        text = f"From {n_replicates} tissues {describe(hard)}; exactly U = {exact['utility']:.3f}"
        numbers = {f"exact_{name}": float(value) for name, value in exact.items()}
        numbers |= {"utility": hard.utility, "utility_se": hard.utility_se, "alternation": hard.alternation}
        numbers |= {"soft_utility": rows["soft, kernel"][4], "bernoulli_utility": rows["soft, Bernoulli"][4]}
        tables = {
            "information": {"quantity": list(exact)} | {_column(name): values for name, values in rows.items()},
            "bias": {"n_replicates": self.SIZES, "mean_utility": scatter.mean(axis=1), "sd": scatter.std(axis=1)},
            "fates": cell_columns(fates),
        }
        return Picture(self._draw_panels(fates, rows, scatter, exact["utility"]), text, numbers, tables)

    def _draw_panels(self, fates, rows, scatter, exact_utility) -> plotting.Figure:
        """The ensemble, the rows of the table of its information, and the estimates `scatter` at each size."""
        figure, (left, middle, right) = self._empty_figure()
        plotting.plot_fates(fates, "The ensemble", ax=left)
        left.get_legend().set_zorder(-1)
        quantities = ["S_pat", "S_rep", "posit.", "correl.", "U"]
        plotting.plot_bars(quantities, rows, "What it is worth", "bits per cell", ax=middle)
        middle.set_ylim(-0.05, 1.6)  # a legend above all bars
        middle.legend(fontsize=8, ncols=2, loc="upper center").set_zorder(-1)
        curves = {f"estimate, mean ± sd of {scatter.shape[1]}": (scatter.mean(axis=1), scatter.std(axis=1))}
        plotting.plot_curves(
            self.SIZES, curves, "Few replicates flatter", "replicates R", "U (bits per cell)", logx=True,
            reference=("exact", exact_utility), ax=right,
        )  # fmt: skip
        right.set_ylim(-0.05, 1.6)
        right.legend(fontsize=8, loc="upper center").set_zorder(-1)
        right.axvline(len(fates), ymax=0.65, color="grey", ls=":", lw=1)
        right.set_xticks([10, 100, 1000], ["10", "100", "1,000"])
        right.minorticks_off()  # each tick takes its time
        return figure


def _soft_row(scores) -> list[float]:
    utility, s_pat, s_rep = map(float, scores)
    return [s_pat, s_rep, np.nan, np.nan, utility]


def _column(label: str) -> str:
    return label.split(" (")[0].replace(", R = ", "_").replace(", ", "_")
