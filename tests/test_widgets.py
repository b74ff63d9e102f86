"""Sliders without a kernel: each control is an attribute, and a picture answers it."""

import pytest

import lateral
from lateral import plotting
from lateral.widgets import Explorer, slider


def _line(slope, offset=0.0):
    return plotting.plot_curves([0, 1], {"y": [offset, slope + offset]}, "line", "x", "y"), f"slope {slope}"


def test_moving_a_slider_draws_a_new_picture():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    picture = bytes(app._image.value)
    assert app.n_drawn == 1 and app.text == "slope 1.0" and picture.startswith(b"\x89PNG")
    app.controls["slope"].value = 2.0
    assert app.n_drawn == 2 and app.text == "slope 2.0" and bytes(app._image.value) != picture


def test_sliders_keep_the_type_of_their_range():
    assert isinstance(slider(0, 10, 3).value, int)
    assert isinstance(slider(0.0, 1.0, 0.5).value, float)
    assert slider(1e-4, 1.0, 1e-2, log=True).value == pytest.approx(1e-2)


def test_sliders_answer_when_they_are_released():
    for control in (slider(0, 10, 3), slider(0.0, 1.0, 0.5), slider(0.1, 1.0, 0.5, log=True)):
        assert control.continuous_update is False


def test_controls_are_named_after_their_argument():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0), offset=slider(0.0, 1.0, 0.0, label="offset (bits)"))
    assert [control.description for control in app.controls.values()] == ["slope", "offset (bits)"]


def test_a_failure_shows_below_the_picture_and_the_app_lives_on():
    def draw(value):
        if value == 2:
            raise ValueError("two is too many")
        return _line(value)

    app = Explorer(draw, value=slider(0, 3, 1))
    app.controls["value"].value = 2
    assert isinstance(app.error, ValueError) and "two is too many" in app._line.value
    app.controls["value"].value = 3
    assert app.error is None and "slope 3" in app._line.value


def test_a_failure_at_the_start_is_raised():
    def draw(value):
        raise ZeroDivisionError("at once")

    with pytest.raises(ZeroDivisionError, match="at once"):
        Explorer(draw, value=slider(0, 3, 1))


def test_the_stored_output_holds_a_picture_and_a_stable_text():
    app = Explorer(_line, slope=slider(0.0, 2.0, 1.0))
    data = app._repr_mimebundle_()
    data = data[0] if isinstance(data, tuple) else data
    assert data["image/png"] == app.figure._repr_png_() and data["text/plain"] == "Explorer(slope)"


def test_a_slider_of_a_number_never_compiles_again(count_traces, key, float32):
    rule = count_traces(lateral.TanhInhibition())

    def draw(noise_strength):
        states = lateral.run_trajectories(
            rule, n_cells=3, n_replicates=2, n_steps=5, dt=0.1, noise_strength=noise_strength, key=key
        )
        return plotting.plot_space_time(states[0], 0.1, "title")

    app = Explorer(draw, noise_strength=slider(0.0, 1.0, 0.1))
    with rule.no_new_trace():
        for noise in (0.0, 0.3, 0.7, 1.0):
            app.controls["noise_strength"].value = noise
    assert app.n_drawn == 5


@pytest.mark.bad_input
def test_rejects_a_value_outside_the_slider():
    with pytest.raises(ValueError, match="got 3"):
        slider(0, 2, 3)
    with pytest.raises(ValueError, match="low > 0, got 0"):
        slider(0.0, 2.0, 1.0, log=True)
