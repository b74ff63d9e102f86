"""What a result may depend on besides settings and seed: the kind of processor, and the precision.

A processor with other vector instructions sums in another order and fuses other multiplications, which changes the
last bits of a step, and after thousands of steps more than those.
"""

import platform
from functools import lru_cache
from pathlib import Path

import jax

__all__ = ["processor", "this_platform"]

# Those that XLA's choice of instructions, and so the rounding, depends on.
FEATURES = ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16",
            "amx_tile", "asimd", "sve", "sve2", "bf16")  # fmt: skip
CPUINFO = Path("/proc/cpuinfo")


def this_platform() -> dict[str, str]:
    """Machine, processor and its vector instructions, operating system, what JAX runs on, and the precision."""
    return processor() | {
        "system": platform.platform(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
    }


@lru_cache
def processor() -> dict[str, str]:
    """The part of it that stays the same as long as Python runs."""
    try:
        lines = CPUINFO.read_text().split("\n\n")[0].splitlines()
    except OSError:  # only Linux has it
        lines = []
    said = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = said.get("flags", said.get("features", "")).split()
    return {
        "machine": platform.machine(),
        "processor": said.get("model name") or platform.processor(),
        "features": " ".join(feature for feature in FEATURES if feature in flags),
    }
