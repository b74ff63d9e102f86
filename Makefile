# Two commands: `make lab` to read and run the notebooks, `make test` to check that they do what they say.
# Both first build .venv in the checkout (tools/setup.sh), which takes no time once it is there.

FIRST = notebooks/01Dynamics.ipynb
VENV = .venv
WORKERS = 2
PYTEST = "$(VENV)/bin/python" -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# For tools/setup.sh, under a name that nobody else's environment holds.
export LATERAL_VENV := $(VENV)

# The kernels are those of $(VENV), whatever else the user has installed.
export JUPYTER_PREFER_ENV_PATH := 1
# Stored numbers are those of float32 on the CPU with inline figures: a user's own settings must not change them.
test test-slow notebooks: export JAX_PLATFORMS := cpu
test test-slow notebooks: export JAX_ENABLE_X64 := 0
test test-slow notebooks: export MPLBACKEND :=
# What one process has compiled the others need not: each notebook runs in a kernel of its own, today and tomorrow.
lab test test-slow notebooks: export JAX_COMPILATION_CACHE_DIR := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/compiled
lab test test-slow notebooks: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0

.PHONY: help setup lab test test-slow notebooks book bench bench-quick lock clean

help:
	@echo "make lab        open JupyterLab on the first notebook (options: ARGS=\"--no-browser --port 8899\")"
	@echo "make test       ruff, unit tests, every notebook run again and compared, and an app in a browser (WORKERS=2)"
	@echo "make test-slow  the tests that make test leaves out, since each takes a second or more"
	@echo "make notebooks  execute all notebooks in place and clean their metadata"
	@echo "make book       make the book of notebooks, guide and reference in build/book"
	@echo "make bench      measure the speed beside plain JAX, diffrax, Numba and NumPy, and write the tables of docs/measured.md"
	@echo "make bench-quick  its main rows in two minutes, printed only"
	@echo "make lock       write requirements.lock anew from pyproject.toml (newest versions: ARGS=--upgrade)"
	@echo "make clean      remove .venv and the caches"
	@echo "PYTHON=/path/to/python chooses the Python, which must be >= 3.11; VENV=/another/place than .venv."

setup:
	@sh tools/setup.sh

# Jupyter refuses root unless told so; without a screen there is no browser to open, so it prints the address.
lab: setup
	@root=; browser=; \
	if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	if [ "$$(uname -s)" = Linux ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY$$BROWSER" ]; then browser=--no-browser; fi; \
	exec "$(VENV)/bin/python" -m jupyterlab --ServerApp.root_dir="$(CURDIR)" \
	    --LabApp.default_url=/lab/tree/$(FIRST) $$root $$browser $(ARGS)

# --nbval is strict: every cell's outputs must be the stored ones.
test: setup
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/ruff" format --check .
	$(PYTEST) -m "not slow" --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-kernel-startup-timeout 120 \
	    tests notebooks

test-slow: setup
	$(PYTEST) -m slow tests

notebooks: setup
	"$(VENV)/bin/python" tools/execute_notebooks.py

# Extras are installed on first use, with everything else held to the lock: $(call extra,NAME,what it imports).
define extra
@"$(VENV)/bin/python" -c "$(foreach module,$(2),import $(module);)" 2>/dev/null || { \
    if uv --version >/dev/null 2>&1; then set -- uv pip install --python "$(VENV)/bin/python"; \
    else set -- "$(VENV)/bin/python" -m pip install --no-input --disable-pip-version-check --quiet; fi; \
    "$$@" --constraint requirements.lock --no-build-isolation --editable ".[$(1)]"; }
endef

bench bench-quick: export JAX_PLATFORMS := $(or $(JAX_PLATFORMS),cpu)
bench bench-quick: setup
	$(call extra,bench,diffrax numba)
	"$(VENV)/bin/python" benchmarks/speed.py $(if $(filter bench-quick,$@),--quick)

# Every warning is an error: a link that leads nowhere, a docstring that cannot be read.
book: setup
	$(call extra,book,myst_nb sphinx_book_theme)
	"$(VENV)/bin/python" -m sphinx -b html -c docs -W --keep-going -q . build/book
	@echo "The book: build/book/index.html"

lock:
	@command -v uv >/dev/null || { echo "make lock: uv is needed to write requirements.lock" >&2; exit 1; }
	uv pip compile --universal --python-version 3.11 --extra notebooks --extra test \
	    --no-header --no-annotate $(ARGS) pyproject.toml -o requirements.lock

# By name, so that a user's own untracked files stay.
clean:
	@sh tools/setup.sh remove
	rm -rf .ruff_cache .pytest_cache .benchmarks build dist
	find lateral tests tools notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
