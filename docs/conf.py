"""The book: notebooks as they are stored, the guide, and the reference from the docstrings (`make book`).

Sources are where they are read in the repository too, so that every relative link of theirs holds in both places.
"""

import re
import tomllib
from importlib.metadata import version as version_of
from pathlib import Path

import jax.typing

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The one setting behind the buttons: [project.urls] Source in pyproject.toml. Without an address there are none.
REPOSITORY = PROJECT.get("urls", {}).get("Source", "")

project = "lateral"
author = copyright = PROJECT["authors"][0]["name"]
release = version = version_of("lateral")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx-mathjax-offline"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/conf.py"]

nb_execution_mode = "off"  # executed and compared by `make test`
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# The reference says ArrayLike: the dozen types that it stands for say nothing to a reader.
jax.typing.ArrayLike = type("ArrayLike", (), {"__module__": "jax.typing"})
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = "lateral: how tissues learn to pattern themselves"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_extra_path = ["start"]  # build/book/index.html leads to the start page
html_theme_options = {
    "use_download_button": True,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the sidebar has the search
}
if REPOSITORY:
    html_theme_options |= {
        "repository_url": REPOSITORY,
        "use_repository_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def as_restructured_text(app, what, name, obj, options, lines):
    """Docstrings are written to be read in an editor: `names` in single backticks, tables and examples as they are."""
    rewritten, block, example = [], None, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line and not indent:
            example = line == "Example:"
        literal = line.startswith("|") or (indent >= 4 and (what == "module" or example))
        if literal and block is None:
            block = " " * (4 if example else 0)  # inside its section
            rewritten += ["", f"{block}::", ""]
        elif line and not literal and block is not None:
            block = None
            rewritten.append("")
        rewritten.append(f"    {line}" if literal else _prose(line))
    lines[:] = rewritten


def _prose(line):
    line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line)
    return re.sub(r"``[^`]*``|\|", lambda found: r"\|" if found[0] == "|" else found[0], line)


def pages_of_the_guide():
    """BACKPROP_GUIDE.md is one document in the repository and a few pages in the book: the page of each heading."""
    page, pages = "docs/guide/index.md", {"": "docs/guide/index.md"}
    lines = (ROOT / "BACKPROP_GUIDE.md").read_text()
    for begins, heading in re.findall(r"^(?:<!-- page: (.*) -->|##+ (.*))$", lines, flags=re.MULTILINE):
        page = begins or page
        pages["#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")] = page
    return pages


PAGES = pages_of_the_guide()


def links_into_the_guide(app, docname, source):
    source[0] = re.sub(
        r"\]\((?:\.\./)*BACKPROP_GUIDE\.md(#[\w-]+)?\)",
        lambda found: f"](/{PAGES[found[1] or '']}{found[1] or ''})",
        source[0],
    )


def links_of_the_guide(app, path, docname, text):
    """Its links are written from the top of the repository, and those within it may lead to another page."""
    text[0] = re.sub(r"\]\((#[\w-]+)\)", lambda found: f"](/{PAGES[found[1]]}{found[1]})", text[0])
    text[0] = re.sub(r"\]\((?!https?:|/)", "](/", text[0])


def setup(app):
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)  # before napoleon's 500
    app.connect("source-read", links_into_the_guide)
    app.connect("include-read", links_of_the_guide)
