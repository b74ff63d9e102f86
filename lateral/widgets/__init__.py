"""Apps for notebooks: the tissue and its training under your hand.

    app = DynamicsExplorer()          # the last line of a cell shows it
    app.noise_strength.value = 0.3    # what a hand does, a script can do: each control is an attribute
    app.last["utility"]               # the numbers of the picture
    app.export("tissue.pdf")          # the picture; its data with the ending .csv

Explorers answer each control with a picture: `DynamicsExplorer` (notebook 01), `UtilityExplorer` (02), `RuleExplorer`
(03), `Comparison`, and `TissueExplorer` for tissues in the plane; `TrainingStudio` (04 and 05) trains in a thread of
its own, to be watched and steered. `explore` makes an app of any function that draws. All are widgets around one image:
no `pyplot`, no flicker, nothing to clear, and no file from the network.

`base` holds what all apps share, with its `controls`, what it knows of its `page` and how it `looks` there; `explorers`
those of a row with their `clock`, `tissues` those in the plane, `rule` with its `pencil`, `ensemble` that of
the utility; `studio` is the training with its threads in `job` and its picture in `canvas`.
"""

from lateral.widgets.base import App, Explorer, Picture, explore
from lateral.widgets.controls import choice, seed_field, slider
from lateral.widgets.ensemble import UtilityExplorer
from lateral.widgets.explorers import Comparison, DynamicsExplorer
from lateral.widgets.rule import RuleExplorer
from lateral.widgets.studio import TrainingStudio
from lateral.widgets.tissues import TissueExplorer

__all__ = [
    "App",
    "Comparison",
    "DynamicsExplorer",
    "Explorer",
    "Picture",
    "RuleExplorer",
    "TissueExplorer",
    "TrainingStudio",
    "UtilityExplorer",
    "choice",
    "explore",
    "seed_field",
    "slider",
]
