"""Markdown that pages and cards share: tables, and a number with its interval."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*|<&]|(?<![^\W_])_|_(?![^\W_])|\](?=\()")  # and `_` at a word's edge


def escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", _visible(text))


def code(text: str) -> str:
    """Return `text` as a code span, whatever backticks it holds, on one line."""
    visible = _visible(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", visible)), default=0))
    pad = " " if "`" in visible else ""
    return f"{fence}{pad}{visible}{pad}{fence}"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts, whose columns line up when read as plain text too."""
    lines = [[escape(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(map(str.ljust, line, widths)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def interval(low: float, high: float) -> str:
    """Return `0.790 to 0.834`."""
    return f"{low:.3f} to {high:.3f}"


def with_interval(value: float, low: float, high: float) -> str:
    """Return `0.812 (0.790 to 0.834)`."""
    return f"{value:.3f} ({interval(low, high)})"
