"""A training that was interrupted goes on from its checkpoint, and ends where it would have ended, bit for bit."""

import _thread
import copy
import json
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import lateral
from lateral import Checkpoint, TrainingInterrupted
from lateral.runs import load_progress
from lateral.training.schedule import Plan
from lateral.training.watch import Watch

pytestmark = pytest.mark.usefixtures("float32")

KEY = jax.random.key(3)
MODEL = lateral.Model(lateral.RBFNetwork(5), n_replicates=16, n_steps=30, objective="tissue", n_cells=5)
SHORT = dict(n_epochs=10, chunk_size=2)
TRAININGS = {
    "evolution": lambda **kept: lateral.train_evolution(
        MODEL, key=KEY, n_generations=10, chunk_size=2, population_size=6, n_parents=2, n_final=50, **kept
    ),
    "pathwise": lambda **kept: lateral.train_backprop(MODEL, key=KEY, **SHORT, check_every=4, n_fresh=40, **kept),
    "score": lambda **kept: lateral.train_backprop(MODEL, key=KEY, **SHORT, gradient=lateral.Score(), **kept),
    "restarts": lambda **kept: lateral.train_restarts(
        MODEL, key=KEY, n_candidates=6, n_restarts=3, n_exploration=50, n_epochs=50, n_fresh=40, n_finishing=6, **kept
    ),
    "any algorithm": lambda **kept: lateral.train(
        lateral.EvolutionStrategy(population_size=6, n_parents=2), MODEL, key=KEY, n_steps=10, chunk_size=2, **kept
    ),
}


@pytest.fixture(scope="module")
def uninterrupted():
    """The outcome of each training, computed once."""
    done = {}

    def outcome(name):
        if name not in done:
            done[name] = TRAININGS[name]()
        return done[name]

    return outcome


@pytest.fixture(autouse=True)
def no_time_step_warning():
    with warnings.catch_warnings(action="ignore", category=lateral.TimeStepWarning):
        yield


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """Also where the tests run in the background of a shell that has it ignored; processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def assert_same(run, other):
    jax.tree.map(np.testing.assert_array_equal, run.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, run.history, other.history)
    assert json.dumps(run.settings) == json.dumps(other.settings)


def interrupt_after(n_chunks):
    """A callback that presses Ctrl-C."""
    chunks = []

    def callback(training):
        chunks.append(training.n_done)
        if len(chunks) == n_chunks:
            raise KeyboardInterrupt

    return callback


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_it_goes_on_bit_for_bit_after_interruptions_at_any_chunk(name, tmp_path, uninterrupted):
    file = tmp_path / "run.npz"
    for n_chunks in (1, 2, 1):
        with pytest.raises(TrainingInterrupted, match=r"interrupted at \w+ \d+ of \d+") as caught:
            TRAININGS[name](checkpoint=Checkpoint(file, seconds=1e-6), callback=interrupt_after(n_chunks))
        assert not caught.value.run.finished and not lateral.load_run(file).finished
    assert_same(TRAININGS[name](checkpoint=file), uninterrupted(name))
    assert lateral.load_run(file).finished
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


@pytest.mark.slow
def test_what_a_second_try_has_not_come_to_is_kept(tmp_path, uninterrupted):
    """A restart that was trained far, and a second interruption before it is its turn again."""
    file = tmp_path / "run.npz"
    for n_chunks in (7, 1):
        with pytest.raises(TrainingInterrupted):
            TRAININGS["restarts"](checkpoint=file, callback=interrupt_after(n_chunks), n_threads=1)
    chunks = []
    run = TRAININGS["restarts"](checkpoint=file, callback=lambda training: chunks.append(training.n_done))
    assert_same(run, uninterrupted("restarts"))
    assert len(chunks) == 10 + 2 - 7 - 1, "of ten chunks of 25 epochs, and two stages of up to five generations"


@pytest.mark.slow
def test_an_interruption_of_the_finish_loses_nothing(tmp_path, uninterrupted):
    """The run so far is the best trained by the gradient, and the same call goes on with the second stage."""
    file = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted) as caught:
        TRAININGS["restarts"](checkpoint=file, callback=interrupt_after(11), n_threads=1)
    assert caught.value.run.method == uninterrupted("restarts").method
    chunks = []
    run = TRAININGS["restarts"](checkpoint=file, callback=lambda training: chunks.append(training.n_done))
    assert_same(run, uninterrupted("restarts"))
    assert chunks == [2]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the checks", "the callback"])
def test_a_decision_to_stop_outlives_an_interruption(how, tmp_path, monkeypatch):
    """Ctrl-C comes after the last chunk, and before the training has noted that it was the last."""

    def train(callback=None, **kept):
        patience = 2 if how == "the checks" else None
        every = {"check_every": 2 if patience else 4, "patience": patience, "n_fresh": 40}
        return lateral.train_backprop(MODEL, key=KEY, n_epochs=60, chunk_size=2, callback=callback, **every, **kept)

    seen = []

    def until_six(training):
        seen.append(training.n_done)
        return how == "the callback" and training.n_done == 6

    whole, file = train(until_six), tmp_path / "run.npz"
    assert seen[-1] < 60 and len(whole.settings["checks"]) > 1
    check_halt, last = Watch.check_halt, seen[-1]
    monkeypatch.setattr(Watch, "check_halt", lambda watch: watch.n_done < last or watch.halt() or check_halt(watch))
    with pytest.raises(TrainingInterrupted):
        train(until_six, checkpoint=file)
    assert seen[-1] == last
    monkeypatch.undo()
    assert_same(train(checkpoint=file), whole)


def test_a_mistake_leaves_no_file(tmp_path):
    class Mistaken:
        def init(self, key):
            return jax.random.normal(key, (2,))

        def apply(self, params, s):
            raise TypeError("my mistake")

    with pytest.raises(TypeError, match="my mistake"):
        lateral.train_backprop(MODEL.changed(network=Mistaken()), key=KEY, checkpoint=tmp_path / "run.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts, arrays: facts.pop("n_done"),
        lambda facts, arrays: facts.update(n_done=5),
        lambda facts, arrays: facts.update(n_done="4"),
        lambda facts, arrays: facts.update(checks=[["a", "b"]]),
        lambda facts, arrays: facts.update(checks=3),
        lambda facts, arrays: arrays.pop("training/leaf_0"),
        lambda facts, arrays: arrays.update({"training/leaf_0": arrays["training/leaf_0"][:-1]}),
        lambda facts, arrays: arrays.update({"training/leaf_0": arrays["training/leaf_0"].astype(np.int32)}),
        lambda facts, arrays: arrays.update({"training/record_loss": np.zeros(3)}),
        lambda facts, arrays: [arrays.pop(name) for name in list(arrays) if "best_" in name],
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused_by_its_name(damage, tmp_path):
    file = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted):
        TRAININGS["pathwise"](checkpoint=file, callback=interrupt_after(2))
    run, kept = lateral.load_run(file), load_progress(file)
    damage(kept.facts["training"], kept.arrays)
    lateral.save_run(file, run, (kept.facts, kept.arrays))
    with pytest.raises(ValueError, match=f"{file} is no complete checkpoint of this training"):
        TRAININGS["pathwise"](checkpoint=file)


def test_a_finished_training_is_not_trained_again(tmp_path, uninterrupted):
    file = tmp_path / "run.npz"
    TRAININGS["pathwise"](checkpoint=file)
    again = TRAININGS["pathwise"](checkpoint=file, callback=lambda training: pytest.fail("it trains"))
    assert_same(again, uninterrupted("pathwise"))


def test_a_checkpoint_of_another_training_is_refused_with_the_difference(tmp_path):
    file = tmp_path / "run.npz"
    with pytest.raises(TrainingInterrupted):
        TRAININGS["pathwise"](checkpoint=file, callback=interrupt_after(1))
    before = file.read_bytes()
    others = {
        "settings.n_epochs is 10 there and 11 here": dict(n_epochs=11),
        r"settings.learning_rate is 0.001 there and 0.01 here": dict(learning_rate=0.01),
        "method is 'backprop' there and 'score' here": dict(gradient=lateral.Score()),
        "key is": dict(key=jax.random.key(4)),
        "initial_params is None there and '": dict(initial_params=MODEL.network.init(KEY)),
        "model.tissue.dt is 0.01 there and 0.02 here": dict(model=MODEL.changed(dt=0.02)),
        "model.network is RBFNetwork there and MLP here": dict(model=MODEL.changed(network=lateral.MLP())),
    }
    for message, changes in others.items():
        settings = dict(model=MODEL, key=KEY, **SHORT, check_every=4, n_fresh=40) | changes
        with pytest.raises(ValueError, match=message):
            lateral.train_backprop(checkpoint=file, **settings)
    assert file.read_bytes() == before
    anew = lateral.train_backprop(MODEL, key=KEY, n_epochs=2, checkpoint=Checkpoint(file, fresh=True))
    assert_same(lateral.load_run(file), anew)


def test_schedules_are_compared_by_what_they_say(tmp_path):
    file = tmp_path / "run.npz"
    train = lambda rate, **kept: lateral.train_backprop(  # noqa: E731
        MODEL,
        key=KEY,
        n_epochs=4,
        chunk_size=2,
        learning_rate=lambda epoch: rate / (1 + epoch),
        checkpoint=file,
        **kept,
    )
    with pytest.raises(TrainingInterrupted):
        train(0.1, callback=interrupt_after(1))
    with pytest.raises(ValueError, match=r"settings\.epochs is"):
        train(0.2)
    assert len(train(0.1).history["loss"]) == 4


@pytest.mark.slow
def test_what_is_no_run_is_not_replaced(tmp_path):
    text, saved = tmp_path / "text", tmp_path / "saved.npz"
    text.write_text("precious")
    lateral.save_run(saved, lateral.train_backprop(key=KEY, n_epochs=1))
    with pytest.raises(ValueError, match="not a complete run file"):
        TRAININGS["pathwise"](checkpoint=text)
    with pytest.raises(ValueError, match="saved without `checkpoint`"):
        TRAININGS["pathwise"](checkpoint=saved)
    assert text.read_text() == "precious"


@pytest.mark.bad_input
@pytest.mark.parametrize("checkpoint", [3, b"run.npz", ("run.npz",)])
def test_a_checkpoint_is_a_path(checkpoint):
    with pytest.raises(ValueError, match="checkpoint must be the path of a file"):
        TRAININGS["evolution"](checkpoint=checkpoint)


@pytest.mark.bad_input
def test_bad_settings_of_a_checkpoint_are_refused(tmp_path):
    with pytest.raises(ValueError, match="seconds must be > 0, got 0"):
        Checkpoint(tmp_path / "run.npz", seconds=0)
    with pytest.raises(ValueError, match="callback must be a function"):
        TRAININGS["evolution"](callback=3)


@pytest.mark.parametrize(
    ("n_epochs", "check_every", "chunk"), [(200, 600, 25), (199, 600, 25), (51, None, 25), (200, 30, 5), (60, 60, 25)]
)
def test_chunks_are_cut_by_checks_on_the_way_alone(n_epochs, check_every, chunk):
    assert Plan(n_epochs=n_epochs, check_every=check_every).chunk == chunk


@pytest.mark.slow
def test_a_callback_sees_each_chunk_and_may_end_the_training():
    seen = []

    def callback(training):
        seen.append((training.n_done, len(training.history["utility"])))
        return training.n_done >= 6

    run = TRAININGS["score"](callback=callback)
    assert seen == [(2, 2), (4, 4), (6, 6)]
    assert len(run.history["utility"]) == 6


@pytest.mark.slow
def test_a_disk_that_is_full_does_not_end_the_training(tmp_path, monkeypatch, uninterrupted):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lateral.training.watch.save_run", full)
    with pytest.warns(RuntimeWarning, match="not written.*No space left on device"):
        run = TRAININGS["score"](checkpoint=Checkpoint(tmp_path / "run.npz", seconds=1e-6))
    assert_same(run, uninterrupted("score"))


class Cliff:
    """A rate that is NaN once its only parameter, which grows by 0.1 in each epoch, is above 0.45."""

    def init(self, key):
        return {"shift": jax.numpy.zeros(())}

    def apply(self, params, s):
        return params["shift"] * (1.0 - s) + jax.numpy.where(params["shift"] > 0.45, np.nan, 0.0)


CLIMB = optax.GradientTransformation(
    lambda params: (), lambda updates, state, params=None: (jax.tree.map(lambda u: 0.0 * u + 0.1, updates), state)
)


@pytest.mark.slow
def test_another_training_that_writes_there_meanwhile_keeps_its_file(tmp_path):
    path = tmp_path / "run.npz"
    other, calls = [], []

    def begin_another(training):
        calls.append(training.n_done)
        if len(calls) == 2:
            path.unlink()
            other.append(lateral.train_evolution(MODEL, key=jax.random.key(9), n_generations=1, checkpoint=path))

    with pytest.warns(RuntimeWarning, match=r"another training has written there meanwhile.*run\.npz") as warned:
        run = lateral.train_evolution(
            MODEL,
            key=KEY,
            n_generations=6,
            chunk_size=1,
            checkpoint=Checkpoint(path, seconds=1e-9),
            callback=begin_another,
        )
    assert any("save it elsewhere" in str(warning.message) for warning in warned)
    assert len(run.history["utility"]) == 6
    np.testing.assert_array_equal(lateral.load_run(path).history["utility"], other[0].history["utility"])


@pytest.mark.slow
def test_two_writers_of_the_same_training_end_with_its_run(tmp_path, uninterrupted):
    path, calls = tmp_path / "run.npz", []

    def begin_it_again(training):
        calls.append(training.n_done)
        if len(calls) == 2:
            TRAININGS["evolution"](checkpoint=path)

    with warnings.catch_warnings(action="error", category=RuntimeWarning):
        run = TRAININGS["evolution"](checkpoint=path, callback=begin_it_again)
    for of_one in (run, lateral.load_run(path)):
        assert_same(of_one, uninterrupted("evolution"))


@pytest.mark.slow
def test_a_diverged_training_diverges_again_from_its_checkpoint(tmp_path, nan_allowed):
    model = lateral.Model(Cliff(), n_replicates=8, n_steps=10)
    for _ in range(2):
        with pytest.raises(lateral.TrainingDiverged) as caught:
            lateral.train_backprop(
                model, key=KEY, n_epochs=9, chunk_size=2, optimizer=CLIMB, checkpoint=tmp_path / "run.npz"
            )
        assert caught.value.epoch == 5
    kept = lateral.load_run(tmp_path / "run.npz", network=Cliff())
    assert not kept.finished and kept.params["shift"] == pytest.approx(0.4)


@pytest.mark.parametrize(("kind", "more"), [(lateral.TrainingDiverged, 3), (TrainingInterrupted, Path("run.npz"))])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_exceptions_survive_pickle_and_deepcopy(kind, more, copied):
    run = lateral.Run(method="own", params={"a": np.ones(2)}, model=MODEL)
    again = copied(kind("not finite at epoch 3", run, more))
    assert str(again) == "not finite at epoch 3" and again.args[2] == more
    assert again.run.model.n_cells == 5 and again.run.params["a"].tolist() == [1.0, 1.0]


# --- sessions ---


def steered(session):
    session.advance(5)
    session.learning_rate, session.noise_strength = 0.03, 0.2
    session.advance(4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["evolution", "score", "pathwise"])
def test_a_session_goes_on_with_its_learning_rate_and_noise(method, tmp_path):
    def make(**kept):
        return lateral.TrainingSession(method, MODEL, key=KEY, n_candidates=4, **kept)

    whole = make()
    steered(whole)
    whole.advance(7)
    first = make(checkpoint=tmp_path / "run.npz")
    steered(first)
    first.save()
    second = make(checkpoint=tmp_path / "run.npz")
    assert second.n_done == 9
    assert (second.learning_rate, second.noise_strength) == pytest.approx((0.03, 0.2))
    second.advance(7)
    assert second.history == whole.history
    jax.tree.map(np.testing.assert_array_equal, second.params, whole.params)


@pytest.mark.slow
def test_an_interrupted_session_has_trained_each_epoch_once():
    """State, history and count are kept together: an interruption leaves all of them or none."""
    whole = lateral.TrainingSession("score", MODEL, key=KEY, n_candidates=2)
    whole.advance(30)
    session = lateral.TrainingSession("score", MODEL, key=KEY, n_candidates=2)
    session.advance(1)

    rng, pressed = np.random.default_rng(0), 0
    while session.n_done < 30:
        ctrl_c = threading.Timer(rng.uniform(0.0, 0.02), _thread.interrupt_main)
        try:
            ctrl_c.start()
            session.advance(min(3, 30 - session.n_done))
            ctrl_c.join()
            time.sleep(0.01)
        except KeyboardInterrupt:
            pressed += 1
    assert pressed > 0
    assert session.history == whole.history


# --- signals, as a command line gets them ---

TISSUE = ["--objective", "tissue", "--n-cells", "5", "--n-steps", "200", "--n-replicates", "64"]
RESTARTS = ["--n-candidates", "8", "--n-restarts", "2", "--n-exploration", "100", "--n-epochs", "2000"]


def start(out, *more, **pipes):
    command = [sys.executable, "-m", "lateral", "train", "score", *TISSUE, *RESTARTS, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **pipes)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_in_two_seconds_and_keeps_the_run(number, status, tmp_path):
    out = tmp_path / "run.npz"
    process = start(out)
    while not out.exists():  # the first chunk is done
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    clock = time.monotonic()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == status, stderr
    assert time.monotonic() - clock < 4.0, "2 s, and as much again for a machine that does two things at once"
    assert stdout == "" and "Traceback" not in stderr
    assert "interrupted" in stderr.splitlines()[-1] and "goes on" in stderr.splitlines()[-1]
    assert not lateral.load_run(out).finished


def test_ctrl_c_while_jax_is_imported_ends_the_command_without_a_traceback():
    command = [sys.executable, "-X", "importtime", "-m", "lateral", "--help"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "jax._src" not in process.stderr.readline():  # one line for each module
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (-signal.SIGINT, "") and "Traceback" not in stderr


LIBRARY = """
import jax, lateral

model = lateral.Model(lateral.RBFNetwork(5), n_replicates=64, n_steps=200, n_cells=5, objective="tissue")
sizes = dict(n_candidates=8, n_exploration=50_000)
try:
    lateral.train_restarts(model, key=jax.random.key(0), callback=lambda _: print("chunk", flush=True), **sizes)
except lateral.TrainingInterrupted as error:
    print(f"kept {error.run.finished}", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_all_threads_of_restarts_at_once():
    process = subprocess.Popen([sys.executable, "-c", LIBRARY], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "chunk\n"
    process.send_signal(signal.SIGINT)
    clock = time.monotonic()
    stdout, _ = process.communicate(timeout=60)
    assert stdout.splitlines()[-1] == "kept False" and process.returncode == 0
    assert time.monotonic() - clock < 4.0
