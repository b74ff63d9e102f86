"""Lower bounds of the utility by the chain rule, on ensembles whose utility is known: by prediction and by counting.

    python benchmarks/bounds.py                      # 16, 64 and 256 cells, 1,000 tissues, some minutes
    python benchmarks/bounds.py --replicates 100     # fewer tissues
    python benchmarks/bounds.py --cells 64 --seed 3

*Prediction* is `lateral.bound_utility`. The others count, in contexts as long as ten tissues come on each case of
context and fate: plug-in, corrected after Miller (1955), by the jackknife (Zahl 1977), and after Grassberger (2003) and
Chao & Shen (2003). All but the jackknife are those of the library `infomeasure` (`pip install -e ".[bench]"`). Printed
is each estimate less the truth, for prediction also in standard errors, and a star where prediction says that the
tissues are too few. An estimate above the truth is no bound. The last row is a simulated row of 12 cells; its truth is
the utility of 200,000 tissues, counted.

Prints a Markdown table.
"""

import argparse
import math
import sys
from functools import partial
from pathlib import Path

import infomeasure
import jax
import numpy as np
from tables import markdown

import lateral
from lateral.contexts import contexts_of

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from ensembles import ENSEMBLES, Known

TISSUES_PER_CASE = 10
N_TRUTH = 200_000


def counted(known: Known) -> list[float]:
    """U with S_rep by the chain rule, by each of the estimators."""
    fates, n_fates = known.fates, known.n_fates
    n_replicates, n_cells = fates.shape
    of_pattern = np.zeros(len(ESTIMATORS))
    for cell, earlier in contexts_of(known.geometry, int(math.log2(n_replicates))):
        case = np.zeros(n_replicates, np.int64)
        for other in earlier:
            longer = np.unique(case * n_fates + fates[:, other], return_inverse=True)[1]
            if len(np.unique(longer * n_fates + fates[:, cell])) * TISSUES_PER_CASE > n_replicates:
                break
            case = longer
        of_pattern += entropies(case * n_fates + fates[:, cell]) - entropies(case)
    s_pat = ESTIMATORS["plug-in"](fates.reshape(-1))
    return list(s_pat - of_pattern / n_cells)


def entropies(values: np.ndarray) -> np.ndarray:
    """Entropy in bits of what was seen, by each of the estimators."""
    return np.array([estimator(values) for estimator in ESTIMATORS.values()])


def jackknife(values: np.ndarray) -> float:
    """By leaving out one value at a time (Zahl 1977)."""
    counts = np.unique(values, return_counts=True)[1].astype(float)
    n, total = counts.sum(), np.sum(counts * np.log2(counts))
    fewer = np.maximum(counts - 1.0, 1.0)
    without = math.log2(n - 1.0) - (total - counts * np.log2(counts) + (counts - 1.0) * np.log2(fewer)) / (n - 1.0)
    return n * (math.log2(n) - total / n) - (n - 1.0) * np.sum(counts * without) / n


LIBRARY = {"plug-in": "discrete", "Miller": "miller_madow", "Grassberger": "grassberger", "Chao–Shen": "chao_shen"}
ESTIMATORS = {name: partial(infomeasure.entropy, approach=approach, base=2) for name, approach in LIBRARY.items()}
ESTIMATORS["jackknife"] = jackknife


def row(name: str, n_cells: int, known: Known) -> list[str]:
    bound = lateral.bound_utility(known.fates, known.geometry, n_fates=known.n_fates)
    error = bound.utility - known.utility
    in_errors = f"{error / bound.utility_se:+.1f}" if bound.utility_se > 1e-6 else "–"
    star = " *" if bound.undersampled else ""
    others = [f"{estimate - known.utility:+.4f}" for estimate in counted(known)]
    return [
        name,
        str(n_cells),
        f"{known.utility:.4f}",
        f"{bound.utility:.4f}{star}",
        f"{error:+.4f}",
        in_errors,
        *others,
    ]


def simulated(n_replicates: int, seed: int) -> Known:
    """A row of 12 cells under the tanh target, and what counting says of many such rows."""
    key, truth_key = jax.random.split(jax.random.key(seed))
    f, tissue = lateral.TanhInhibition(), lateral.Tissue(n_cells=12)

    def fates(key, n_replicates):
        states = lateral.run_multiple_replicates(f, tissue=tissue, n_replicates=n_replicates, key=key)
        return np.asarray(lateral.apply_threshold(states)).astype(int)

    truth = lateral.estimate_utility(fates(truth_key, N_TRUTH)).utility_corrected
    return Known(fates(key, n_replicates), tissue.geometry, float(truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for n_cells in options.cells:
        for name, make in ENSEMBLES.items():
            if name != "one of 1,000 patterns" or n_cells > 32:
                known = make(np.random.default_rng(options.seed), options.replicates, n_cells)
                rows.append(row(name, n_cells, known))
    rows.append(row("simulated, tanh", 12, simulated(options.replicates, options.seed)))
    heads = ["ensemble", "N", "U", "bound", "error", "in s.e.", *ESTIMATORS]
    print(markdown(heads, rows))


if __name__ == "__main__":
    main()
