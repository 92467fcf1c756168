"""Descriptions of images that never were, as many of each method as a test of splits needs."""

import pandas as pd

from src.core.hashing import image_key
from src.dataset.columns import METADATA

FAMILIES = {
    "coco": "real",
    "ffhq": "real",
    "stylegan1": "gan",
    "stylegan2": "gan",
    "glide": "other",
}


def make_metadata(images_per_method: int) -> pd.DataFrame:
    """Return so many rows of each method of `FAMILIES`, all of one category, each a group."""
    rows = []
    for method, family in FAMILIES.items():
        for number in range(images_per_method):
            name = f"{method}/{number}.jpg"
            row = {"image_id": name, "method": method, "family": family, "group": name}
            rows.append(row | {"label": int(family != "real"), "key": image_key(name)})
    table = pd.DataFrame(rows)
    for column, kind in METADATA.items():
        if column not in table:
            table[column] = "" if str(kind) == "string" else 0
    return table.astype({"key": "uint64"})
