"""Engines: how many steps of many replicates are simulated, and the gradient back through them.

`protocol` says what an engine is, `simulation` runs any of them, `table` is the fast one, `reference` the plain one,
`noise` the random numbers of both. A further engine is one more file like `table`, and a line here; or an object that
is handed over: `Numerics(engine=MyEngine())`.
"""

from lateral.engine.protocol import ENGINES, Engine, Numerics, engine_of, prepare_rule
from lateral.engine.reference import ReferenceEngine
from lateral.engine.simulation import simulate
from lateral.engine.table import TableEngine

__all__ = ["ENGINES", "Engine", "Numerics", "engine_of", "prepare_rule", "simulate"]

ENGINES |= {"table": TableEngine(), "reference": ReferenceEngine()}
