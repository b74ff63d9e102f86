"""Numbers that a notebook prints are compared as numbers.

Another processor, or another order of sums, ends in other last digits. Rounding until they are equal would leave a
reader without the number; comparing with a tolerance leaves it to him. `install` teaches nbval to do so, and to draw no
progress bars.
"""

import copy
import os
import re

# A whole number is a count or a name and must be the same; what has a point, an exponent or a % is measured.
MEASURED = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+|(?= ?%))(?!\w|\.\d)")
WITHIN = 0.02  # of the number, besides one of its last digit
TAG = re.compile(r"within-(0\.\d+|\d+)$")  # a cell's own share, where a training multiplies what processors differ in


def near(text: str, stored: str, within: float = WITHIN) -> str:
    """`text` with every measured number that is near that of the stored text at its place written as it is stored."""
    ours, theirs = list(MEASURED.finditer(text)), list(MEASURED.finditer(stored))
    if len(ours) != len(theirs):
        return text
    pieces, end = [], 0
    for our, their in zip(ours, theirs, strict=True):
        pieces += [text[end : our.start()], their[0] if _near(our[0], their[0], within) else our[0]]
        end = our.end()
    return "".join([*pieces, text[end:]])


def _near(ours: str, theirs: str, within: float) -> bool:
    a, b = (float(number.replace(",", "")) for number in (ours, theirs))
    digit = max(_last_digit(ours), _last_digit(theirs))
    # The last digit of 0.614 may flip; 0.5 and 0.6 are two numbers.
    return abs(a - b) <= within * abs(b) + (1.0001 * digit if digit <= 0.01 * max(1.0, abs(b)) else 0.0)


def _last_digit(number: str) -> float:
    mantissa, _, exponent = number.partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 10.0 ** (int(exponent or 0) - decimals)


def within_of(cell) -> float:
    """The tolerance of a cell: that of its tag `within-0.1`, or the usual one."""
    shares = [match[1] for tag in cell.metadata.get("tags", []) if (match := TAG.match(tag))]
    return float(shares[0]) if shares else WITHIN


def install() -> None:
    """Once in a process, before notebooks are run."""
    from nbval import plugin

    compare = plugin.IPyNbCell.compare_outputs

    def compare_outputs(self, test, ref, skip_compare=None):
        test = copy.deepcopy(test)
        for ours, theirs in zip(test, ref, strict=False):
            if ours.output_type == theirs.output_type == "stream":
                ours.text = near(ours.text, theirs.text, within_of(self.cell))
        return compare(self, test, ref, skip_compare)

    if not hasattr(compare, "numbers"):
        compare_outputs.numbers = True
        plugin.IPyNbCell.compare_outputs = compare_outputs
        plugin.IPyNbFile.setup = _without_progress_bars(plugin.IPyNbFile.setup)


def _without_progress_bars(start_kernel):
    """Progress bars are for people who wait: none is stored, and the kernel draws none."""

    def setup(self):
        before = os.environ.get("TQDM_DISABLE")
        os.environ["TQDM_DISABLE"] = "1"
        try:
            start_kernel(self)
        finally:
            os.environ.pop("TQDM_DISABLE")
            if before is not None:
                os.environ["TQDM_DISABLE"] = before

    return setup
