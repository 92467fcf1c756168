"""Columns of plots/evaluate/errors.csv, the worst errors of the test split."""

import pyarrow as pa

from src.core.tables import Schema


def error_columns(predictions: Schema) -> Schema:
    """Return the columns of `predictions`, the error before them and the score after."""
    return {"error": pa.string(), **predictions, "score": pa.float64()}
