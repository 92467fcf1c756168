"""data/raw, the folder that download writes and metadata reads: shards, indexes, a manifest.

`<method>-00000.tar` holds images of one method, `<method>-00000.csv` says where in it each one
lies and what is known of it, and `manifest.json` says what came from where, with checksums.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import groupby, islice
from pathlib import Path, PurePosixPath

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from src.command import InputError
from src.files import write_json
from src.params import STRICT
from src.ranks import image_key
from src.schema import FAKE, INDEX, read_table, write_table
from src.shards import stored_size, write_shard

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
    """manifest.json: all that belongs to a folder of shards, by method."""

    methods: dict[str, Method]


@dataclass(frozen=True, config=STRICT)
class ShardLimits:
    """Where one shard of a method ends and the next begins."""

    images: int
    bytes: int  # a larger image gets a shard of its own


def write_raw(
    root: Path,
    images: pd.DataFrame,
    contents: Iterator[bytes],
    provenance: Mapping[str, tuple[str, str, str]],
    limits: ShardLimits,
) -> None:
    """Write `contents` as shards, their indexes and the manifest into the new folder `root`.

    `images` has the identity columns of INDEX and one row per element of `contents`, in the same
    order, the images of a method together; `provenance` holds the origin, version and licence of
    each method. A method's images are cut into shards from its first one on, so that more images
    at its end change at most its last shard.
    """
    root.mkdir()
    methods = {}
    for method, rows in images.groupby("method", sort=False):
        shards = dict(_write_method(root, str(method), rows, islice(contents, len(rows)), limits))
        fake = int((rows["label"] == FAKE).sum())
        methods[str(method)] = Method(*provenance[str(method)], len(rows) - fake, fake, shards)
    write_json(asdict(Manifest(methods)), root / MANIFEST)


def _write_method(
    root: Path, method: str, rows: pd.DataFrame, contents: Iterator[bytes], limits: ShardLimits
) -> Iterator[tuple[str, Shard]]:
    members = zip(map(_member_name, rows["image_id"]), contents, strict=True)
    first = 0
    for number, cut in groupby(members, key=_shard_number(limits)):
        digests: list[str] = []
        shard = root / f"{method}-{number:05d}.tar"
        places = write_shard(shard, _digesting(cut, digests))
        part = rows.iloc[first : first + len(places)]
        first += len(places)
        offsets, lengths = zip(*places, strict=True)
        index = part.assign(shard=shard.name, offset=offsets, length=lengths, sha256=digests)
        write_table(index, shard.with_suffix(".csv"), INDEX)
        yield shard.name, _describe(shard, len(places))


def _member_name(image_id: str) -> str:
    # Not the base name: it repeats within a method, and may be too long for the format.
    return f"{image_key(image_id):016x}{PurePosixPath(image_id).suffix.lower()}"


def _shard_number(limits: ShardLimits) -> Callable[[tuple[str, bytes]], int]:
    number = images = size = 0

    def number_of(member: tuple[str, bytes]) -> int:
        nonlocal number, images, size
        stored = stored_size(len(member[1]))
        images, size = images + 1, size + stored
        if images > limits.images or (images > 1 and size > limits.bytes):
            number, images, size = number + 1, 1, stored
        return number

    return number_of


def _digesting(
    members: Iterable[tuple[str, bytes]], digests: list[str]
) -> Iterator[tuple[str, bytes]]:
    for name, content in members:
        digests.append(hashlib.sha256(content).hexdigest())
        yield name, content


def _describe(shard: Path, images: int) -> Shard:
    index_sha256 = _sha256(shard.with_suffix(".csv"))
    return Shard(images, shard.stat().st_size, _sha256(shard), index_sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def read_index(root: Path) -> pd.DataFrame:
    """Return all images in the folder of shards `root`, columns INDEX, methods by name.

    Every file is compared with the manifest, byte for byte.

    Raises:
        InputError: a file is missing, truncated or changed, or the manifest is; it is named.
    """
    methods = sorted(read_manifest(root).methods.items())
    shards = [item for _, method in methods for item in sorted(method.shards.items())]
    if not shards:
        raise InputError(f"{root / MANIFEST}: lists no shards; run the download stage again")
    with ThreadPoolExecutor() as pool:
        indexes = pool.map(lambda item: _read_checked(root / item[0], item[1]), shards)
        return pd.concat(indexes, ignore_index=True)


def _read_checked(path: Path, shard: Shard) -> pd.DataFrame:
    index = path.with_suffix(".csv")
    for file, sha256 in ((path, shard.sha256), (index, shard.index_sha256)):
        if not file.is_file():
            raise InputError(f"{file}: missing, but in the manifest; run the download stage again")
        if _sha256(file) != sha256:
            raise InputError(
                f"{file}: truncated or changed after it was downloaded (sha256 is not {sha256}); "
                "run the download stage again"
            )
    return read_table(index, INDEX)
