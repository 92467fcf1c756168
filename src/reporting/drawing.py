"""One matplotlib set-up for every picture: equal tables give equal bytes, and any name is drawn."""

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib import font_manager
from matplotlib.figure import Figure

from src.core.files import replacing
from src.core.tables import write_csv

logger = logging.getLogger(__name__)

BLUE, GREY, ORANGE = "#2b6cb0", "#a0aec0", "#dd6b20"
COLOURS = {"real": "#319795", "fake": ORANGE}  # told apart by colour-blind readers too
# For what matplotlib's own font lacks (Chinese, Japanese, Korean), where a system has one of them.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS"),
)


@contextmanager
def _settings() -> Iterator[None]:
    # The defaults, so that a reader's own matplotlibrc does not change a committed picture; and no
    # mathtext, which fails on a `$` in the name of a method.
    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]
    with mpl.rc_context({**mpl.rcParamsDefault}):
        mpl.rcParams["font.family"] = fonts
        mpl.rcParams["font.size"] = 9
        mpl.rcParams["axes.titlesize"] = 10
        mpl.rcParams["text.parse_math"] = False
        yield


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of so many inches, to be drawn on within the `with`."""
    with _settings(), warnings.catch_warnings():
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        warnings.filterwarnings("ignore", "Glyph")  # `save` says it
        figure.draw_without_rendering()  # the layout settles in its second pass, that of `save`


def save(figure: Figure, path: Path) -> None:
    """Write `figure`, which `canvas` gave, to `path` as PNG, 100 pixels an inch.

    Characters that no font here has become boxes, and one warning names them.
    """
    with _settings(), warnings.catch_warnings(record=True) as caught, replacing(path) as temporary:
        warnings.simplefilter("always")
        # Without its software tag, which names a version, equal plots are equal files.
        figure.savefig(temporary, format="png", metadata={"Software": None})
    lacking = set()
    for warning in caught:
        if match := re.match(r"Glyph (\d+) ", str(warning.message)):
            lacking.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, 0)
    if lacking:
        logger.warning(
            "%s: no font here has %s: boxes stand for them; install one, such as Noto Sans CJK",
            path.name,
            ", ".join(map(ascii, sorted(lacking))),
        )


def write_plots(
    folder: Path, tables: Mapping[str, pd.DataFrame], pictures: Mapping[str, Figure]
) -> None:
    """Write `tables` as CSV and `pictures` as PNG to the new `folder`."""
    folder.mkdir()
    for name, table in tables.items():
        write_csv(table, folder / f"{name}.csv")
    for name, picture in pictures.items():
        save(picture, folder / f"{name}.png")
