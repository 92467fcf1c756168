"""What a detector was trained on, in a sentence for whoever uses it."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

SAMPLE = "sample"


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="ignore"))
class TrainingData:
    """The names of the data sets, from section `download` of params.yaml."""

    source: str | tuple[str, ...]


def trained_on(data: TrainingData, split: Mapping[str, Any]) -> str:
    """Return the sentence; `split` is metrics/split.json."""
    classes = split["counts"]["train"].values()
    images = sum(of_class["images"] for of_class in classes)
    methods = len({method for of_class in classes for method in of_class["by_method"]})
    counts = f"{images:,} images of {methods} methods"
    sources = [data.source] if isinstance(data.source, str) else data.source
    if set(sources) == {SAMPLE}:
        return f"A demonstration, not for use: trained on the embedded sample alone, {counts}."
    return f"Trained on {', '.join(sources)}: {counts}."
