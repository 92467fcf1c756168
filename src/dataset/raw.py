"""data/raw, the folder that download writes and metadata reads: shards, indexes, a manifest.

`<method>-<class>-00000.tar` holds images of one method and class, a CSV of the same name says
where in it each one lies and what is known of it, and `manifest.json` says what came from where,
with checksums.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import groupby, islice, starmap
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd
from pandas.api.types import union_categoricals
from pydantic.dataclasses import dataclass

from src.core.cli import InputError
from src.core.files import write_json
from src.core.hashing import image_key
from src.core.params import STRICT
from src.core.tables import FAKE, LABELS, compact, read_table, write_table
from src.dataset.columns import INDEX
from src.dataset.manifest import MANIFEST, Manifest, Method, Shard, read_manifest
from src.images.shards import stored_size, write_shard

_SHARED = ["method", "family", "category", "given_split", "shard"]  # by many images


@dataclass(frozen=True, config=STRICT)
class ShardLimits:
    """Upper limits of a shard."""

    images: int
    bytes: int  # a larger image gets a shard of its own


def write_raw(
    root: Path,
    images: pd.DataFrame,
    contents: Iterator[bytes],
    provenance: Mapping[str, tuple[str, str, str]],
    limits: ShardLimits,
    missing: Collection[str] = (),
) -> None:
    """Write `contents` as shards, their indexes and the manifest into the new folder `root`.

    `images` has the columns of INDEX that say what an image is, those of a method and class
    together; `contents` has one element for each row, in the same order, except for the `missing`
    (image_id). `provenance` holds the origin, version and licence of each method. Adding images to
    a method and class rewrites its last shard at most, and none if there was a round number of
    them (`round_place`).
    """
    root.mkdir()
    place = images.groupby(["method", "label"]).cumcount()
    present = images.assign(place=place)[~images["image_id"].isin(missing)]
    methods = {}
    for method, rows in present.groupby("method", sort=False):
        shards: dict[str, Shard] = {}
        for label, part in rows.groupby("label", sort=False):
            name = f"{method}-{LABELS[int(str(label))]}"
            shards.update(_write_shards(root, name, part, islice(contents, len(part)), limits))
        fake = int((rows["label"] == FAKE).sum())
        methods[str(method)] = Method(*provenance[str(method)], len(rows) - fake, fake, shards)
    absent = images.loc[images["image_id"].isin(missing), "image_id"]
    write_json(asdict(Manifest(methods, tuple(absent))), root / MANIFEST)


def _write_shards(
    root: Path, name: str, rows: pd.DataFrame, contents: Iterator[bytes], limits: ShardLimits
) -> Iterator[tuple[str, Shard]]:
    members = starmap(_Member, zip(rows["place"], rows["image_id"], contents, strict=True))
    first = 0
    for number, cut in groupby(members, key=_ShardNumber(limits)):
        digests: list[str] = []
        shard = root / f"{name}-{number:05d}.tar"
        places = write_shard(shard, _digesting(cut, digests))
        part = rows.iloc[first : first + len(places)]
        first += len(places)
        offsets, lengths = zip(*places, strict=True)
        index = part.assign(shard=shard.name, offset=offsets, length=lengths, sha256=digests)
        write_table(index, shard.with_suffix(".csv"), INDEX)
        yield shard.name, _describe(shard, len(places))


class _Member(NamedTuple):
    place: int  # in the draw from its method and class
    image_id: str
    content: bytes

    @property
    def name(self) -> str:
        # Not the base name: it repeats within a method, and may be too long for the format.
        suffix = PurePosixPath(self.image_id).suffix.lower()
        return f"{image_key(self.image_id):016x}{suffix}"


def round_place(place: int) -> int:
    """Return the largest number that is not above `place` and round: 0, 100, 200, ... 1000, 2000.

    A shard begins at each of them. People draw round numbers of images, so a draw mostly ends with
    a shard, and enlarging it adds shards without rewriting any. The distance grows with the draw,
    so shards stay few.
    """
    unit: int = 10 ** max(2, len(str(place)) - 1)
    return place // unit * unit


class _ShardNumber:
    """Numbers shards: a new one begins at a round place, and where the last one is full."""

    def __init__(self, limits: ShardLimits) -> None:
        self._limits = limits
        self._number, self._begin, self._images, self._bytes = -1, -1, 0, 0

    def __call__(self, member: _Member) -> int:
        """Return the shard of the next member."""
        size, begin = stored_size(len(member.content)), round_place(member.place)
        fits = self._images < self._limits.images and self._bytes + size <= self._limits.bytes
        if begin != self._begin or not (fits or self._images == 0):
            self._number, self._begin, self._images, self._bytes = self._number + 1, begin, 0, 0
        self._images, self._bytes = self._images + 1, self._bytes + size
        return self._number


def _digesting(members: Iterable[_Member], digests: list[str]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        digests.append(hashlib.sha256(member.content).hexdigest())
        yield member.name, member.content


def _describe(shard: Path, images: int) -> Shard:
    index_sha256 = _sha256(shard.with_suffix(".csv"))
    return Shard(images, shard.stat().st_size, _sha256(shard), index_sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_index(root: Path) -> pd.DataFrame:
    """Return all images in the folder of shards `root`, columns INDEX, methods by name.

    Every file is compared with the manifest, byte for byte. Texts that many images share are
    categories: millions of rows hardly need memory for them.

    Raises:
        InputError: a file is missing, truncated or changed, or the manifest is; it is named.
    """
    methods = sorted(read_manifest(root).methods.items())
    shards = [item for _, method in methods for item in sorted(method.shards.items())]
    if not shards:
        raise InputError(f"{root / MANIFEST}: lists no shards; run the download stage again")
    with ThreadPoolExecutor() as pool:
        indexes = list(pool.map(lambda item: _read_checked(root / item[0], item[1]), shards))
    own = (index.drop(columns=_SHARED) for index in indexes)
    table = compact(pd.concat(own, ignore_index=True))
    shared = {
        name: union_categoricals([index[name] for index in indexes], sort_categories=True)
        for name in _SHARED
    }
    return table.assign(**shared)[list(INDEX)]


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
    return read_table(index, INDEX).astype(dict.fromkeys(_SHARED, "category"))
