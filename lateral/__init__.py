"""How tissues learn to pattern themselves: cells that see only their neighbours, and how to train their rule.

One file for each notebook: `dynamics` (01), `utility` (02), `network` (03), `evolution` (04), `backprop` (05);
`step`, `engine` and `noise` are how the dynamics are computed; `gradients` estimate how the utility changes with the
rule, `restarts` train many random networks and keep the best, `session` advances a training by hand; `model` holds the
settings that all trainers share, `evaluation` measures a trained rule on fresh replicates, `runs` saves it. `plotting`
and `widgets` are imported by name, since the core needs neither matplotlib nor ipywidgets.
"""

from importlib.metadata import version

from lateral.backprop import (
    NOISE_CURRICULA,
    TrainingDiverged,
    compute_loss,
    make_train_step,
    train_backprop,
    train_step,
)
from lateral.dynamics import neighbour_mean, run_multiple_replicates, run_trajectories
from lateral.evaluation import Evaluation, TimeStepWarning, evaluate
from lateral.evolution import EvolutionState, EvolutionStrategy, population_fitness, train_evolution
from lateral.gradients import Combination, FiniteDifferences, Pathwise, Score
from lateral.model import Model
from lateral.network import (
    HIDDEN_DIMS,
    MLP,
    DeadBand,
    RBFNetwork,
    RegulatoryFunction,
    Table,
    TanhInhibition,
    fit_network,
    tabulate,
)
from lateral.presets import preset
from lateral.restarts import train_restarts
from lateral.runs import Run, load_run, save_run
from lateral.session import TrainingSession
from lateral.utility import (
    UndersampledWarning,
    UtilityEstimate,
    alternation,
    apply_threshold,
    compute_bernoulli_utility,
    compute_hard_utility,
    compute_pairwise_utility,
    compute_soft_utility,
    correlational_information,
    estimate_utility,
    positional_information,
    soften_fates,
)

__version__ = version("lateral")

__all__ = [
    "HIDDEN_DIMS",
    "MLP",
    "NOISE_CURRICULA",
    "Combination",
    "DeadBand",
    "Evaluation",
    "EvolutionState",
    "EvolutionStrategy",
    "FiniteDifferences",
    "Model",
    "Pathwise",
    "RBFNetwork",
    "RegulatoryFunction",
    "Run",
    "Score",
    "Table",
    "TanhInhibition",
    "TimeStepWarning",
    "TrainingDiverged",
    "TrainingSession",
    "UndersampledWarning",
    "UtilityEstimate",
    "alternation",
    "apply_threshold",
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
    "run_multiple_replicates",
    "run_trajectories",
    "save_run",
    "soften_fates",
    "tabulate",
    "train_backprop",
    "train_evolution",
    "train_restarts",
    "train_step",
]
