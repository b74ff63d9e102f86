"""Animations of a tissue in the plane, as a GIF or an MP4."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lateral.checks import check_matrix, check_number, check_size
from lateral.figure import Figure
from lateral.geometry import Geometry
from lateral.mosaic import Mosaic, plot_mosaic
from lateral.storage.files import whole_file

__all__ = ["ENDINGS", "save_animation"]

ENDINGS = (".gif", ".mp4")


def save_animation(
    path: str | os.PathLike,
    states,
    geometry: Geometry,
    dt: float,
    title: str = "",
    *,
    n_fates: int = 2,
    walls: bool = True,
    frames_per_second: int = 20,
) -> Path:
    """Save the states of one tissue over time as an animation of `plot_tissue`, a frame for each time.

    A GIF plays again and again in any browser. An MP4 is smaller, and needs the program `ffmpeg`. The file is written
    completely or not at all.

    Args:
        path: ends in `.gif` or `.mp4`.
        states: `(time, cell)`, states in [0, 1] or fates.
        geometry: who sees whom, with `positions`.
        dt: time between two rows, in the time that a cell at unit rate needs from 0 to 1.
        title: stands above the tissue, before the time.
        n_fates, walls: as in `plot_tissue`.
        frames_per_second: at most 50, since a GIF counts in hundredths of a second and many programs show none faster.

    Returns:
        The path.

    Raises:
        ValueError: for another ending, an MP4 without `ffmpeg`, or what `plot_tissue` refuses.
        OSError: if the file cannot be written, or ffmpeg fails.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"path must end in {' or '.join(ENDINGS)}, got {str(path)!r}")
    if ending == ".mp4" and not FFMpegWriter.isAvailable():
        raise ValueError("an MP4 needs the program ffmpeg, which is not on the PATH: install it, or save a .gif")
    states = np.asarray(check_matrix("states", states, "(time, cell)"))
    dt = check_number("dt", dt, above=0.0)
    if check_size("frames_per_second", frames_per_second) > 50:
        raise ValueError(f"frames_per_second must be at most 50, got {frames_per_second}")
    figure, mosaic = plot_mosaic(states, geometry, f"{title} t = 0.0", n_fates=n_fates, walls=walls, with_scale=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # frames must not jump
    shown = _shown_in_turn(figure, mosaic, states, dt, title)
    with whole_file(path) as file:
        if ending == ".gif":
            canvas = FigureCanvasAgg(figure)
            pictures = (_picture(canvas) for _ in shown)
            # All frames in the colours of the first, which has them in its scale and legend: what stays takes no room.
            first = next(pictures).quantize(method=Image.Quantize.MAXCOVERAGE)
            later = (picture.quantize(palette=first, dither=Image.Dither.NONE) for picture in pictures)
            duration = round(1000 / frames_per_second)
            first.save(file, "gif", save_all=True, append_images=later, duration=duration, loop=0)
        else:
            file.write(_mp4(figure, shown, frames_per_second))
    return path


def _shown_in_turn(figure: Figure, mosaic: Mosaic, states: np.ndarray, dt: float, title: str) -> Iterator[None]:
    for number, values in enumerate(states):
        mosaic.show(values)
        figure.axes[0].set_title(f"{title} t = {number * dt:.1f}".strip())
        yield


def _picture(canvas: FigureCanvasAgg) -> Image.Image:
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _mp4(figure: Figure, shown: Iterator[None], frames_per_second: int) -> bytes:
    # ffmpeg writes by itself, and wants a name.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "animation.mp4"
        writer = FFMpegWriter(fps=frames_per_second)
        try:
            with writer.saving(figure, path, figure.dpi):
                for _ in shown:
                    writer.grab_frame()
        except subprocess.CalledProcessError as error:
            raise OSError(f"ffmpeg failed with exit status {error.returncode}: save a .gif instead") from error
        return path.read_bytes()
