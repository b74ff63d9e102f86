"""What JAX compiles for the command `lateral` stays on disk, so that the next command need not compile it again.

Only the command does this. What a program that imports the package keeps is its own affair: see JAX's variables
`JAX_COMPILATION_CACHE_DIR` and `JAX_ENABLE_COMPILATION_CACHE`, which the command respects too.
"""

import hashlib
import os
from pathlib import Path

import jax

from lateral.storage.machine import processor

__all__ = ["keep_compiled"]


def keep_compiled() -> None:
    """Keep what is compiled in the user's cache folder, unless JAX was told another place or the folder is closed."""
    if jax.config.jax_compilation_cache_dir is not None:
        return
    # A home may be shared by unlike machines, and code for one may not run on another.
    machine = hashlib.sha256(repr(processor()).encode()).hexdigest()[:8]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lateral" / machine
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or no place in it
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
