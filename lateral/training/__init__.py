"""Training: algorithms, and the one driver that runs them.

`driver` advances any algorithm (`init` and `step` of a state) a chunk at a time; `descent` is the algorithm that
follows a gradient, from one of the `estimators` (`score` in a file of its own), on a `schedule`; the other algorithm
is `lateral.EvolutionStrategy`. On top of it: `restarts` train many random networks and keep the best, `session`
advances a training by hand, `fit` makes a warm start.
"""
