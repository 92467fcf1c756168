"""What a study writes: tables, pictures, metrics, and the page that its `make` target prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from src.core.files import replacing, write_json
from src.reporting.drawing import write_plots


def write_results(
    folder: Path,
    page: str,
    tables: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, Figure],
    metrics: Mapping[str, Any],
) -> None:
    """Write `page` as README.md, `tables` as CSV, `pictures` as PNG, `metrics` as metrics.json."""
    with replacing(folder) as temporary:
        write_plots(temporary, tables, pictures)
        (temporary / "README.md").write_text(page, encoding="utf-8")
        write_json(metrics, temporary / "metrics.json")
