"""140k faces: Flickr-Faces-HQ and StyleGAN's, 256 x 256, with a table for each part.

Source: Kaggle `xhlulu/140k-real-and-fake-faces`.
"""

import pandas as pd
import pyarrow as pa

from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources.shared.known_methods import UNKNOWN_LICENCE
from src.sources.shared.origin_source import (
    OriginSource,
    load,
    match_names,
    open_data_set,
    without_copies,
)
from src.sources.shared.user_table import read_user_table

DEFAULT_ORIGIN = "kaggle://xhlulu/140k-real-and-fake-faces/versions/2"
_TABLES = r"^(?P<root>(?:.*/)?)(?P<part>train|valid|test)\.csv$"
_COLUMNS = {"label": pa.int64(), "label_str": pa.string(), "path": pa.string()}
_IMAGES = "real_vs_fake/real-vs-fake/"
_SPLITS = {"train": "train", "valid": "val", "test": "test"}
# Its `label` is the other way round than ours: 1 is real.
_LABELS = {("1", "real"): REAL, ("0", "fake"): FAKE}
_METHODS = {REAL: "faces140k_ffhq", FAKE: "faces140k_stylegan"}
_LICENCES = {"faces140k_ffhq": "CC-BY-NC-SA-4.0", "faces140k_stylegan": UNKNOWN_LICENCE}


def build(url: str) -> OriginSource:
    """Return the faces, from anywhere in their layout; `url` is empty for Kaggle.

    Raises:
        InputError: they are not there, not laid out as expected, or contradict themselves.
    """
    origin, cache = open_data_set(url, DEFAULT_ORIGIN)
    tables = match_names(origin, _TABLES, "train.csv, valid.csv, test.csv")
    tables = without_copies(tables, ["part"], origin)
    contents = load(cache, origin, tables["member"].to_numpy())
    parts = [
        _read_part(root, part, content)
        for root, part, content in zip(tables["root"], tables["part"], contents, strict=True)
    ]
    images = pd.concat(parts, ignore_index=True)
    catalogue = images[["image_id", "method", "family", "label", "given_split"]].assign(
        category="human face",
        group=images["image_id"],
        member=origin.find(pa.array(images["name"])),
    )
    return OriginSource(origin, catalogue, _LICENCES, cache)


def _read_part(root: str, part: str, content: bytes) -> pd.DataFrame:
    name = f"{root}{part}.csv"
    rows = read_user_table(content, name, _COLUMNS)
    # Three columns say what an image is: never trust one against the others.
    folder = rows["path"].str.extract(rf"^{part}/(real|fake)/[^/]+$")[0]
    pairs = zip(rows["label"].astype(str), rows["label_str"], strict=True)
    label = pd.Series([_LABELS.get(pair) for pair in pairs], index=rows.index, dtype="Int64")
    contrary = label.isna() | (folder != rows["label_str"])
    if contrary.any():
        wrong = rows.loc[contrary].iloc[0].to_dict()
        raise InputError(f"{name}: label (1: real), label_str and path contradict: {wrong}")
    method = label.map(_METHODS)
    return pd.DataFrame(
        {
            "image_id": method + "/" + rows["path"],
            "method": method,
            "family": label.map({REAL: "real", FAKE: "gan"}),
            "label": label.astype("int64"),
            "given_split": _SPLITS[part],
            "name": root + _IMAGES + rows["path"],
        }
    )
