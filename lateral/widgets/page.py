"""The page that an app stands on: its style, whether it is dark, and whether it is narrow."""

from pathlib import Path

import anywidget
import traitlets

__all__ = ["Page"]

HERE = Path(__file__).parent


class Page(anywidget.AnyWidget):
    """Tells an app about its page and brings the style sheet; it shows nothing and fetches nothing.

    Attributes:
        dark: whether what is behind the app is dark.
        narrow: whether three panels side by side would be too small to read.
    """

    _esm = (HERE / "page.js").read_text(encoding="utf-8")
    _css = (HERE / "page.css").read_text(encoding="utf-8")
    dark = traitlets.Bool(False).tag(sync=True)
    narrow = traitlets.Bool(False).tag(sync=True)
