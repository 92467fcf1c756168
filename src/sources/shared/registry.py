"""A data set's name -> the data set; each file of `src/sources` is one."""

import importlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from src.core.cli import InputError
from src.sources.origins import with_archives
from src.sources.shared.source import BuildSource, ClassNames, Source
from src.sources.shared.subset import check_known

SOURCES = "src.sources"  # the package of the data sets


def source_names() -> list[str]:
    """Return the names of all data sets: those of the files in `src/sources`."""
    files = Path(__file__).parents[1].glob("*.py")
    return sorted(file.stem for file in files if file.stem != "__init__")


def find_source(name: str) -> BuildSource:
    """Return the function `build` of the file `name` of `src/sources`."""
    build: BuildSource = importlib.import_module(f"{SOURCES}.{name}").build
    return build


def build_sources(
    names: str | Sequence[str],
    origins: str | Sequence[str],
    class_names: ClassNames,
    *,
    download: bool,
) -> list[Source]:
    """Return the data sets `names`, each from its origin; `class_names` are for class folders.

    Raises:
        InputError: a name is unknown, there are not as many origins, a source refuses its own, or
            an archive has to be downloaded before it can be listed and `download` is False.
    """
    names, origins = ([x] if isinstance(x, str) else x for x in (names, origins))
    check_known("source", names, source_names())
    if len(names) != len(origins):
        raise InputError(
            f"download.origin has {len(origins)} elements for {len(names)} of download.source; "
            "give one for each, '' where the source knows its own"
        )
    builds = []
    for name, origin in zip(names, origins, strict=True):
        # Folders that say the class are what this one alone has.
        arguments = (origin, class_names) if name == "folder" else (origin,)
        builds.append(partial(find_source(name), *arguments))
    return [with_archives(build) if download else build() for build in builds]
