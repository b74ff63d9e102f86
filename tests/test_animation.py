"""Animations hold each time of a tissue once, and are written completely or not at all."""

import numpy as np
import PIL.Image
import pytest
from matplotlib.colors import to_rgb

from lateral import Ring, Sheet
from lateral.figure import COLOURS, fate_colours
from lateral.plotting import save_animation

SHEET = Sheet(2, 3)
# A program that takes the place of ffmpeg: what it is given becomes the file.
FFMPEG = """#!/usr/bin/env python3
import sys
frames = sys.stdin.buffer.read()
if {status}:
    sys.exit({status})
open(sys.argv[-1], "wb").write(frames)
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """Puts a program `ffmpeg` on the path, which ends with this status."""

    def put(status: int):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "ffmpeg").write_text(FFMPEG.format(status=status))
        (folder / "ffmpeg").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return put


def _share_of(picture: PIL.Image.Image, colour) -> float:
    pixels = np.asarray(picture.convert("RGB"), float).reshape(-1, 3)
    return float(np.mean(np.abs(pixels - 255 * np.array(to_rgb(colour))).max(axis=1) < 12))


def test_a_gif_shows_each_time_once_with_its_colours_and_walls(tmp_path):
    """One more cell of the six has fate 2 at each time, until all are alike."""
    fates = np.array([[2 if cell < time else cell % 2 for cell in range(6)] for time in range(7)])
    path = save_animation(tmp_path / "a.gif", fates, SHEET, 0.5, "fates", n_fates=3, frames_per_second=10)
    with PIL.Image.open(path) as animation:
        assert animation.n_frames == 7 and animation.info["duration"] == 100 and animation.info["loop"] == 0
        areas, walls = [], []
        for number in range(7):
            animation.seek(number)
            areas.append(_share_of(animation, fate_colours(3)(2)))
            walls.append(_share_of(animation, COLOURS[1]))
    grown = np.diff(areas)
    assert grown.min() > 0.8 * grown.mean() and grown.mean() > 0.03, "a cell more each time"
    assert walls[6] > 3.0 * walls[0], "none of the pairs is alike at the start but for the legend, and all at the end"
    assert [file.name for file in tmp_path.iterdir()] == ["a.gif"]


def test_states_keep_their_colours_at_a_time_when_all_are_0_or_1(tmp_path):
    """Whether numbers are states is a matter of all times."""
    states = np.stack([np.arange(6) % 2, np.full(6, 0.5)])
    with PIL.Image.open(save_animation(tmp_path / "a.gif", states, Ring(6), 0.5)) as animation:
        animation.seek(0)
        assert _share_of(animation, fate_colours()(1)) < 0.001 < _share_of(animation, "#fee838")


@pytest.mark.slow
def test_an_mp4_is_made_of_all_frames_by_ffmpeg(tmp_path, ffmpeg):
    ffmpeg(0)
    path = save_animation(tmp_path / "a.mp4", np.random.default_rng(0).random((5, 6)), SHEET, 0.5)
    frames = np.frombuffer(path.read_bytes(), np.uint8).reshape(5, -1)
    assert frames.shape[1] == 4 * 458 * 400 and len(np.unique(frames, axis=0)) == 5


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, ffmpeg):
    ffmpeg(3)
    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(OSError, match=r"ffmpeg failed with exit status 3: save a .gif"):
        save_animation(tmp_path / "a.mp4", np.zeros((2, 6)), SHEET, 0.5)
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "bin"]


@pytest.mark.bad_input
def test_what_cannot_be_animated_is_refused(tmp_path, monkeypatch):
    states = np.zeros((2, 6))
    with pytest.raises(ValueError, match=r"path must end in .gif or .mp4, got '.*a.avi'"):
        save_animation(tmp_path / "a.avi", states, SHEET, 0.5)
    with pytest.raises(ValueError, match=r"states must have shape \(time, cell\) .* got shape \(6,\)"):
        save_animation(tmp_path / "a.gif", states[0], SHEET, 0.5)
    with pytest.raises(ValueError, match="as many cells as the patterns, 6, got 4"):
        save_animation(tmp_path / "a.gif", states, Sheet(2, 2), 0.5)
    with pytest.raises(ValueError, match="dt must be > 0"):
        save_animation(tmp_path / "a.gif", states, SHEET, 0.0)
    with pytest.raises(ValueError, match="frames_per_second must be at most 50, got 60"):
        save_animation(tmp_path / "a.gif", states, SHEET, 0.5, frames_per_second=60)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"an MP4 needs the program ffmpeg, .* save a .gif"):
        save_animation(tmp_path / "a.mp4", states, SHEET, 0.5)
    assert list(tmp_path.iterdir()) == []
