"""Hugging Face's imagefolder: a `metadata.csv` with the column `file_name` beside the images."""

import posixpath
from collections.abc import Mapping

import pandas as pd
import pyarrow as pa
from pyarrow import compute as pc

from src.core.cli import InputError
from src.sources.local.cache import Cache
from src.sources.origins import Origin
from src.sources.shared.origin_source import load, match_names
from src.sources.shared.user_table import column_names, read_user_table

_TABLE = r"^(?P<root>(?:.*/)?)metadata\.csv$"
_FILE = "file_name"
_LABEL = "label"


def find_tables(origin: Origin, cache: Cache) -> dict[str, bytes]:
    """Return the content of each such table by its folder; none where there are other tables."""
    names = origin.names()
    if not pc.any(pc.match_substring_regex(names, _TABLE)).as_py():
        return {}
    found = match_names(origin, _TABLE, "metadata.csv")
    first = next(load(cache, origin, found["member"].to_numpy()[:1]))
    if _FILE not in column_names(first, f"{found['root'].iloc[0]}metadata.csv"):
        return {}
    contents = load(cache, origin, found["member"].to_numpy())
    return dict(zip(found["root"], contents, strict=True))


def has_labels(tables: Mapping[str, bytes]) -> bool:
    """Return whether the tables say the class; otherwise folders do."""
    return any(_LABEL in column_names(content, root) for root, content in tables.items())


def labelled_images(
    origin: Origin, tables: Mapping[str, bytes], labels: Mapping[str, int]
) -> pd.DataFrame:
    """Return `root`, `path`, `label` and `member` of every image that the tables list.

    Raises:
        InputError: a label is no class name, or a number, which may mean either.
    """
    parts = []
    for root, content in tables.items():
        name = f"{root}metadata.csv"
        columns = {_FILE: pa.string(), _LABEL: pa.string()}
        rows = read_user_table(content, name, columns)
        label = rows[_LABEL].str.lower().map(labels)
        if label.isna().any():
            value = rows.loc[label.isna(), _LABEL].iloc[0]
            raise InputError(
                f"{name}: label {value!r} is no class name; use one of {', '.join(labels)}, or add "
                "it to download.real_names or fake_names"
            )
        path = root + rows[_FILE].str.replace("\\", "/").map(posixpath.normpath)
        parts.append(pd.DataFrame({"root": root, "path": path, "label": label.astype("int64")}))
    images = pd.concat(parts, ignore_index=True)
    return images.assign(member=origin.find(pa.array(images["path"])), folder=images["label"])
