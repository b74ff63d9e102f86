"""How tissues learn to pattern themselves: cells that see only their neighbours, and how to train their rule.

One file for each notebook: `dynamics` (01), `utility` (02), `network` (03), `evolution` (04), `backprop` (05). A model
is a tissue (`geometry`, `tissue`), a network, a `readout` of fates and an `objective`; `engine` simulates it,
`training` trains it, `evaluation` measures what came out, `runs` saves it. `plotting` and `widgets` are imported by
name, since the core needs neither matplotlib nor ipywidgets.
"""

import lateral.startup  # noqa: F401 # isort: skip; before anything that takes time

from importlib.metadata import version

from lateral.backprop import compute_loss, make_train_step, train_backprop, train_step
from lateral.bounds import UtilityBound, bound_utility
from lateral.conditions import ComparedConditions, compare_conditions
from lateral.dynamics import neighbour_mean, run_multiple_replicates, run_trajectories
from lateral.engine import Numerics
from lateral.evaluation import Evaluation, TimeStepWarning, evaluate
from lateral.evolution import EvolutionState, EvolutionStrategy, train_evolution
from lateral.fates import read_fates
from lateral.geometry import Geometry, Pinned, Ring, Row
from lateral.graph import Graph
from lateral.intervals import UtilityIntervals, utility_intervals
from lateral.model import Model
from lateral.neighbours import read_cells, read_contacts, read_edges
from lateral.network import (
    HIDDEN_DIMS,
    MLP,
    DeadBand,
    RBFNetwork,
    RegulatoryFunction,
    Table,
    TanhInhibition,
    tabulate,
    tanh_as_network,
)
from lateral.presets import preset
from lateral.readout import Readout
from lateral.relaxation import (
    compute_bernoulli_utility,
    compute_pairwise_utility,
    compute_soft_utility,
    soften_fates,
)
from lateral.runs import Run, load_run, save_run
from lateral.sheet import Sheet
from lateral.step_network import StepNetwork
from lateral.teaching import check
from lateral.tissue import Tissue
from lateral.training.checkpoint import Checkpoint
from lateral.training.driver import TrainingDiverged, train
from lateral.training.estimators import Combination, FiniteDifferences, Pathwise, Score
from lateral.training.fit import fit_network
from lateral.training.islands import train_islands
from lateral.training.population import population_fitness
from lateral.training.restarts import train_restarts
from lateral.training.schedule import NOISE_CURRICULA
from lateral.training.session import TrainingSession
from lateral.training.value_gradient import ValueGradient
from lateral.training.watch import TrainingInterrupted
from lateral.utility import (
    UndersampledWarning,
    UtilityEstimate,
    alternation,
    apply_threshold,
    compute_hard_utility,
    correlational_information,
    estimate_utility,
    positional_information,
)
from lateral.voronoi import voronoi_tissue

__version__ = version("lateral")

__all__ = [
    "HIDDEN_DIMS",
    "MLP",
    "NOISE_CURRICULA",
    "Checkpoint",
    "Combination",
    "ComparedConditions",
    "DeadBand",
    "Evaluation",
    "EvolutionState",
    "EvolutionStrategy",
    "FiniteDifferences",
    "Geometry",
    "Graph",
    "Model",
    "Numerics",
    "Pathwise",
    "Pinned",
    "RBFNetwork",
    "Readout",
    "RegulatoryFunction",
    "Ring",
    "Row",
    "Run",
    "Score",
    "Sheet",
    "StepNetwork",
    "Table",
    "TanhInhibition",
    "TimeStepWarning",
    "Tissue",
    "TrainingDiverged",
    "TrainingInterrupted",
    "TrainingSession",
    "UndersampledWarning",
    "UtilityBound",
    "UtilityEstimate",
    "UtilityIntervals",
    "ValueGradient",
    "alternation",
    "apply_threshold",
    "bound_utility",
    "check",
    "compare_conditions",
    "compute_bernoulli_utility",
    "compute_hard_utility",
    "compute_loss",
    "compute_pairwise_utility",
    "compute_soft_utility",
    "correlational_information",
    "estimate_utility",
    "evaluate",
    "fit_network",
    "load_run",
    "make_train_step",
    "neighbour_mean",
    "population_fitness",
    "positional_information",
    "preset",
    "read_cells",
    "read_contacts",
    "read_edges",
    "read_fates",
    "run_multiple_replicates",
    "run_trajectories",
    "save_run",
    "soften_fates",
    "tabulate",
    "tanh_as_network",
    "train",
    "train_backprop",
    "train_evolution",
    "train_islands",
    "train_restarts",
    "train_step",
    "utility_intervals",
    "voronoi_tissue",
]


def __dir__() -> list[str]:
    """What a user needs, and no more: completion shows these."""
    return sorted([*__all__, "__version__"])
