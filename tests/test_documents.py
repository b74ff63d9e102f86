"""The examples of README.md and BACKPROP_GUIDE.md run, on smaller tissues; their links lead somewhere."""

import re
import warnings
from pathlib import Path

import jax
import pytest

import lateral
from lateral.presets import trainer

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "BACKPROP_GUIDE.md"]

pytestmark = pytest.mark.usefixtures("float32")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_python_examples_run(name, tmp_path, monkeypatch):
    """All blocks of a document one after another, as a reader would paste them."""
    full = {function: getattr(lateral, function) for function in ("preset", "evaluate", "Model")}

    train = lateral.train_backprop

    def small_preset(method, *name, **changes):
        model, settings = full["preset"](method, *name, n_replicates=16, n_steps=20, **changes)
        length = "n_generations" if method == "evolution" else "n_epochs"
        short = {"n_candidates": 6, "n_exploration": 2} if trainer(method, *name) is lateral.train_restarts else {}
        return model, settings | short | {length: 2}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lateral, "preset", small_preset)
    monkeypatch.setattr(
        lateral, "evaluate", lambda f, model, *, key: full["evaluate"](f, model, key=key, n_replicates=50)
    )
    monkeypatch.setattr(lateral, "train_backprop", lambda *args, **kw: train(*args, **kw | {"n_epochs": 2}))
    monkeypatch.setattr(lateral, "Model", lambda **settings: full["Model"](n_replicates=8, n_steps=10, **settings))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        scope = {"jax": jax, "key": jax.random.key(0), "train_step": lateral.train_step, "lateral": lateral}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lateral.UndersampledWarning)
            exec(compile(block, name, "exec"), scope)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), target


def test_the_guide_has_a_verdict_for_every_promise():
    promises = (ROOT / "BACKPROP_GUIDE.md").read_text().split("## The promises, one by one")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in promises.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 40 and all(len(row) == 3 for row in rows)
    assert {row[2] for row in rows} == {"**holds**", "**holds in part**", "**does not hold**"}
