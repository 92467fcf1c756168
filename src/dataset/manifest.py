"""data/raw/manifest.json: what every image came from, and the checksums of the shards."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from src.core.cli import InputError
from src.core.params import STRICT

MANIFEST = "manifest.json"


@dataclass(frozen=True, config=STRICT)
class Shard:
    """What the manifest says of a shard."""

    images: int
    bytes: int
    sha256: str
    index_sha256: str  # of the CSV beside it


@dataclass(frozen=True, config=STRICT)
class Method:
    """What the manifest says of a method."""

    origin: str
    version: str
    licence: str
    real: int  # images
    fake: int
    shards: dict[str, Shard]


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """manifest.json: everything in a folder of shards, by method."""

    methods: dict[str, Method]
    missing: tuple[str, ...]  # drawn, but not available


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of the folder of shards `root`.

    Raises:
        InputError: there is none, or it is not one of ours.
    """
    path = root / MANIFEST
    try:
        return TypeAdapter(Manifest).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such manifest; run the download stage") from error
    except ValidationError as error:
        raise InputError(f"{path}: not a manifest of ours: {error.errors()[0]['msg']}") from error
