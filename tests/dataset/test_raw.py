"""The folder of shards: what is written is read back, and nothing else passes for it."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.cli import InputError
from src.core.hashing import image_key
from src.core.tables import FAKE, REAL
from src.dataset.columns import INDEX
from src.dataset.manifest import MANIFEST, read_manifest
from src.dataset.raw import ShardLimits, read_index, round_place, write_raw
from src.images.shards import ShardReader, read_tar, stored_size

PROVENANCE = dict.fromkeys(("glide", "coco"), ("origin", "1", "MIT"))


def make_images(counts: dict[str, int]) -> pd.DataFrame:
    rows = [(f"{m}/a/{n:03d}.JPG", m, "", n) for m, count in counts.items() for n in range(count)]
    table = pd.DataFrame(rows, columns=["image_id", "method", "category", "label"])
    label = table["method"].map({"coco": REAL, "glide": FAKE})
    family = table["method"].map({"coco": "real", "glide": "diffusion"})
    return table.assign(label=label, family=family, group=table["image_id"], given_split="")


def content_of(image_id: str) -> bytes:
    return hashlib.sha512(image_id.encode()).digest() * (1 + image_id.encode()[-5] % 7)


def make_raw(root: Path, counts: dict[str, int], limits: ShardLimits) -> pd.DataFrame:
    images = make_images(counts)
    write_raw(root, images, map(content_of, images["image_id"]), PROVENANCE, limits)
    return images


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    make_raw(tmp_path / "raw", {"coco": 5, "glide": 3}, ShardLimits(2, 10**6))
    return tmp_path / "raw"


def test_the_index_leads_to_every_image(raw: Path) -> None:
    index = read_index(raw)
    assert list(index.columns) == list(INDEX)
    assert list(index["image_id"]) == list(make_images({"coco": 5, "glide": 3})["image_id"])
    reader = ShardReader(raw)
    columns = ("image_id", "shard", "offset", "length", "sha256")
    for image_id, *place, digest in zip(*(index[column] for column in columns), strict=True):
        data = reader.read(*place)
        assert data == content_of(image_id)
        assert digest == hashlib.sha256(data).hexdigest()


def test_members_are_named_by_key_and_shards_by_method_and_class(raw: Path) -> None:
    names = [f"coco-real-{n:05d}" for n in range(3)] + [f"glide-fake-{n:05d}" for n in range(2)]
    expected = [f"{name}{suffix}" for name in names for suffix in (".csv", ".tar")]
    assert sorted(path.name for path in raw.iterdir()) == [*expected, MANIFEST]
    assert (
        read_tar(raw / "coco-real-00000.tar")[0].name == f"{image_key('coco/a/000.JPG'):016x}.jpg"
    )


def test_the_manifest_says_what_came_from_where(raw: Path) -> None:
    glide = read_manifest(raw).methods["glide"]
    assert (glide.origin, glide.version, glide.licence) == ("origin", "1", "MIT")
    assert (glide.real, glide.fake) == (0, 3)
    assert [shard.images for shard in glide.shards.values()] == [2, 1]


@settings(max_examples=15)
@given(
    small=st.integers(1, 10),
    more=st.integers(0, 10),
    limits=st.builds(ShardLimits, st.integers(1, 6), st.integers(600, 5000)),
)
def test_more_images_change_at_most_the_last_shard(
    small: int, more: int, limits: ShardLimits
) -> None:
    with TemporaryDirectory() as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        make_raw(few, {"glide": small}, limits)
        make_raw(many, {"glide": small + more}, limits)
        shards = sorted(path.name for path in few.glob("*.tar"))
        for name in shards[:-1]:
            assert (few / name).read_bytes() == (many / name).read_bytes()
        for name, shard in read_manifest(many).methods["glide"].shards.items():
            stored = sum(stored_size(m.size) for m in read_tar(many / name))
            assert shard.images <= limits.images
            assert stored <= limits.bytes or shard.images == 1


@pytest.mark.parametrize(
    ("place", "begin"),
    [
        (0, 0),
        (99, 0),
        (100, 100),
        (250, 200),
        (999, 900),
        (1000, 1000),
        (1999, 1000),
        (25000, 20000),
    ],
)
def test_a_round_place(place: int, begin: int) -> None:
    assert round_place(place) == begin


@pytest.mark.parametrize("n", [100, 300, 1000])
def test_more_than_a_round_number_of_images_changes_no_shard(tmp_path: Path, n: int) -> None:
    limits = ShardLimits(400, 10**9)
    make_raw(tmp_path / "few", {"glide": n}, limits)
    make_raw(tmp_path / "many", {"glide": n + 150}, limits)
    many = {path.name: path.read_bytes() for path in (tmp_path / "many").iterdir()}
    for path in (tmp_path / "few").iterdir():
        assert path.name == MANIFEST or path.read_bytes() == many[path.name]


def test_images_that_are_missing_are_listed_and_move_no_shard(tmp_path: Path) -> None:
    images, limits = make_images({"coco": 3, "glide": 150}), ShardLimits(400, 10**9)
    gone = list(images["image_id"].iloc[[10, 20]])
    contents = map(content_of, images["image_id"][~images["image_id"].isin(gone)])
    write_raw(tmp_path / "raw", images, contents, PROVENANCE, limits, set(gone))
    manifest = read_manifest(tmp_path / "raw")
    assert list(manifest.missing) == gone
    assert manifest.methods["glide"].fake == 148
    assert [shard.images for shard in manifest.methods["glide"].shards.values()] == [98, 50]
    assert not set(gone) & set(read_index(tmp_path / "raw")["image_id"])


def test_real_and_fake_images_of_a_method_have_shards_of_their_own(tmp_path: Path) -> None:
    images = make_images({"glide": 5}).assign(label=[REAL, REAL, FAKE, FAKE, FAKE])
    contents = map(content_of, images["image_id"])
    write_raw(tmp_path / "raw", images, contents, PROVENANCE, ShardLimits(9, 10**9))
    glide = read_manifest(tmp_path / "raw").methods["glide"]
    assert (glide.real, glide.fake) == (2, 3)
    assert list(glide.shards) == ["glide-fake-00000.tar", "glide-real-00000.tar"]
    assert list(read_index(tmp_path / "raw")["label"]) == [FAKE, FAKE, FAKE, REAL, REAL]


def test_equal_images_make_equal_bytes(raw: Path, tmp_path: Path) -> None:
    make_raw(tmp_path / "again", {"coco": 5, "glide": 3}, ShardLimits(2, 10**6))
    for path in raw.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_missing_file_is_named(raw: Path) -> None:
    (raw / "coco-real-00001.tar").unlink()
    with pytest.raises(InputError, match=r"coco-real-00001\.tar: missing.*run the download stage"):
        read_index(raw)


@pytest.mark.parametrize("name", ["coco-real-00001.tar", "glide-fake-00000.csv"])
def test_a_truncated_file_is_named(raw: Path, name: str) -> None:
    (raw / name).write_bytes((raw / name).read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{name}: truncated or changed"):
        read_index(raw)


def test_a_changed_byte_of_an_image_is_noticed(raw: Path) -> None:
    path = raw / "coco-real-00001.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"coco-real-00001\.tar: truncated or changed"):
        read_index(raw)


def test_a_column_that_is_missing_is_named(raw: Path) -> None:
    path = raw / "coco-real-00000.csv"
    path.write_text(path.read_text().replace("sha256", "checksum", 1))
    manifest = json.loads((raw / MANIFEST).read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["methods"]["coco"]["shards"]["coco-real-00000.tar"]["index_sha256"] = digest
    (raw / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"coco-real-00000\.csv: .*sha256"):
        read_index(raw)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"methods": {"a": {}}}', '{"methods": {}, "missing": [], "b": 1}']
)
def test_a_manifest_that_is_not_ours_is_refused(raw: Path, text: str) -> None:
    (raw / MANIFEST).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json: not a manifest"):
        read_index(raw)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest\.json: no such manifest; run the download"):
        read_index(tmp_path)


def test_a_source_that_yields_too_little_is_a_bug(tmp_path: Path) -> None:
    images = make_images({"glide": 3})
    with pytest.raises(ValueError, match="shorter"):
        write_raw(tmp_path / "raw", images, iter([b"a"]), PROVENANCE, ShardLimits(9, 10**6))
