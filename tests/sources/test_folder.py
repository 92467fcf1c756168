"""A directory as a source: ArtiFact's layout with its traps, and the plain tree."""

import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.tables import FAKE, FAMILIES, REAL
from src.sources import artifact as artifact_source
from src.sources.folder import build
from src.sources.local import cache
from src.sources.shared.known_methods import METHODS, family_of, licence_of
from tests.helpers.make_artifact import expected_labels, in_mirror, make_artifact, tar_of, zip_of
from tests.helpers.make_data import METHODS as MADE
from tests.helpers.make_data import make_artifact_folder, make_class_folder
from tests.helpers.servers import serving
from tests.sources.origins.test_origins import unpack


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact_folder(tmp_path_factory.mktemp("data") / "artifact", 3, 16)


def test_artifact_is_read_as_artifact(artifact: Path) -> None:
    found, expected = build(str(artifact)), artifact_source.build(str(artifact))
    pd.testing.assert_frame_equal(found.catalogue(), expected.catalogue())
    assert found.provenance == expected.provenance


def test_artifact_images_keep_method_label_family_and_category(artifact: Path) -> None:
    images = build(str(artifact)).catalogue()
    assert images["image_id"].is_unique
    assert (images["group"] == images["image_id"]).all()
    first = images.groupby("method").first()
    assert list(first.index) == sorted(MADE)
    assert first.loc["stylegan2", "image_id"] == "stylegan2/images/img000000.jpg"
    assert dict(first["label"]) == {m: FAKE if fake else REAL for m, (fake, _, _) in MADE.items()}
    assert dict(first["category"]) == {
        method: category for method, (_, _, category) in MADE.items()
    }
    assert list(first["family"]) == ["real", "diffusion", "real", "gan"]  # ffhq glide landscape ..


@pytest.mark.parametrize("layout", ["artifact", "tree"])
def test_the_images_come_in_the_order_of_the_rows(
    artifact: Path, tmp_path: Path, layout: str
) -> None:
    root = artifact if layout == "artifact" else make_class_folder(tmp_path / "tree", 6, 16)
    source = build(str(root))
    images = source.catalogue().sample(frac=1, random_state=1)
    path = images["image_id"] if layout == "artifact" else images["path"]
    fetched = list(source.fetch(images))
    assert [image_id for image_id, _ in fetched] == list(images["image_id"])
    assert [data for _, data in fetched] == [(root / name).read_bytes() for name in path]


def test_the_origin_is_a_name_and_never_a_path(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance = build(str(artifact)).provenance
    assert provenance.origin == "artifact"
    assert provenance.licences["ffhq"] == "CC-BY-NC-SA-4.0"
    monkeypatch.chdir(artifact)
    assert build(".").provenance == provenance


def test_a_file_that_went_is_reported(tmp_path: Path) -> None:
    root = make_class_folder(tmp_path / "tree", 2, 16)
    source = build(str(root))
    images = source.catalogue()
    (root / "fake/0001.jpg").unlink()
    missing = source.prepare(images)
    assert list(missing) == ["fake/fake/0001.jpg"]
    assert missing["fake/fake/0001.jpg"] == "not there any more"
    plan = source.plan(images)
    assert plan.transfer == plan.bytes.sum() > 0
    assert not plan.kept.any()
    assert not plan.remote


@pytest.mark.parametrize("part", ["", "Fake"])
def test_a_folder_without_metadata_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    folder = tmp_path / part / "glide"
    folder.mkdir(parents=True)
    (folder / "metadata.csv").write_text("target,extra,category,image_path\n6,1,,a.jpg\n")
    (folder / "a.jpg").touch()
    unpack(tmp_path, {"notes/1.txt": b"1", ".git/2.txt": b"2"})
    with caplog.at_level(logging.WARNING):
        images = build(str(tmp_path)).catalogue()
    assert list(images["image_id"]) == ["glide/a.jpg"]
    assert "without metadata.csv: notes" in caplog.text


@pytest.mark.parametrize("origin", ["", "no/such/directory"])
def test_no_such_directory(origin: str) -> None:
    with pytest.raises(InputError, match=rf"download\.origin = '{origin}': no such file or dir"):
        build(origin)


def test_an_address_that_cannot_be_read_keeps_its_password() -> None:
    with pytest.raises(InputError, match=r"'https://host/x' and more: a user, password"):
        build("https://user:hidden@host/x?sig=hidden")


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"caf\xe9/1.jpg"])
def test_a_name_that_is_not_utf8_is_named(tmp_path: Path, name: bytes) -> None:
    make_class_folder(tmp_path, 1, 16)
    file = Path(os.fsdecode(os.fsencode(tmp_path / "fake") + b"/" + name))
    file.parent.mkdir(exist_ok=True)
    file.touch()
    with pytest.raises(InputError, match=r"the name fake/caf\\xe9.* is not UTF-8; rename") as error:
        build(str(tmp_path))
    str(error.value).encode()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["photos/1.jpg", "made/1.jpg"],
            r"metadata\.csv .* nature and fake .* in made, photos; other names go into",
        ),
        (
            ["real/1.jpg", "made/1.jpg", "fake/a.txt"],
            "no image is in a folder fake: .* made, real; ",
        ),
        (["a/real/1.jpg", "a/fake/1.jpg", "b/fake/1.jpg"], "more than one place: a/.*, b/"),
        ([f"{n}/1.jpg" for n in range(6)], r"its files are in 0, 1, 2, 3, 4, \.\.\.; "),
    ],
)
def test_neither_layout(tmp_path: Path, files: list[str], message: str) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(dict.fromkeys(files, b"1")))
    (tmp_path / "fake").mkdir()
    for origin in (tmp_path, tmp_path / "x.zip"):
        with pytest.raises(InputError, match=message):
            build(str(origin))


TREE = ("Real/1.jpg", "Real/coco/val/2.PNG", "FAKE/glide/real/1.webp", "FAKE/glide/a.txt")


@pytest.mark.parametrize("kind", ["directory", "zip below", "zip", "tar", "http"])
def test_a_plain_tree_is_the_same_wherever_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    top = "" if kind == "directory" else "set/"
    files = {f"{top}{name}": name.encode() for name in (*TREE, "Real/.hidden.jpg")}
    with serving({"x.zip": zip_of(files)}) as server:
        (tmp_path / "x.zip").write_bytes(zip_of(files))
        (tmp_path / "x.tar").write_bytes(tar_of(files))
        origin = {
            "directory": str(unpack(tmp_path / "loose", files)),
            "zip below": str(unpack(tmp_path / "below", {"x.zip": zip_of(files)})),
            "http": f"{server.url}/x.zip",
        }.get(kind, str(tmp_path / f"x.{kind}"))
        source = build(origin)
        images = source.catalogue().set_index("image_id", drop=False)
        columns = ["method", "family", "category", "label"]
        assert images[columns].T.to_dict("list") == {
            "real/Real/1.jpg": ["real", "real", "", REAL],
            "coco/Real/coco/val/2.PNG": ["coco", "real", "", REAL],
            "glide/FAKE/glide/real/1.webp": ["glide", "diffusion", "", FAKE],
        }
        assert (images["group"] == images["image_id"]).all()
        assert source.prepare(images) == {}
        assert {i: i.partition("/")[2].encode() for i in images.index} == dict(source.fetch(images))
    assert source.provenance.licences == dict.fromkeys(["real", "coco", "glide"], "unknown")
    assert caplog.text.count("1 files are no images") == 1


def test_what_is_left_out_is_counted_by_suffix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("a.txt", "b.TXT", "c.jpg", "d", "e.dng", "f.jpg.txt")
    unpack(tmp_path, {f"{label}/{name}": b"" for label in ("real", "fake") for name in names})
    assert len(build(str(tmp_path)).catalogue()) == 2
    assert "10 files are no images by their names (.txt 6, no suffix 2, .dng 2): " in caplog.text


def test_a_class_may_be_an_archive(tmp_path: Path) -> None:
    unpack(tmp_path, {"real/1.jpg": b"1", "fake/x.zip": zip_of({"glide/2.jpg": b"2"})})
    source = build(str(tmp_path))
    assert dict(source.fetch(source.catalogue())) == {
        "real/real/1.jpg": b"1",
        "glide/fake/glide/2.jpg": b"2",
    }


def test_artifact_in_a_zip_is_read_as_artifact(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(in_mirror(make_artifact())))
    images = build(str(tmp_path / "x.zip")).catalogue()
    assert dict(zip(images["image_id"], images["label"], strict=True)) == expected_labels()


def test_a_plain_tree(tmp_path: Path) -> None:
    make_class_folder(tmp_path / "tree", 2, 16)
    source = build(str(tmp_path / "tree"))
    images = source.catalogue()
    assert list(images["image_id"]) == [
        "fake/fake/0000.jpg",
        "fake/fake/0001.jpg",
        "real/real/0000.jpg",
        "real/real/0001.jpg",
    ]
    assert list(images["family"]) == ["other", "other", "real", "real"]
    assert source.provenance.licences == {"real": "unknown", "fake": "unknown"}
    assert len(list(source.fetch(images))) == 4


def test_in_a_plain_tree_the_first_folder_names_the_method(tmp_path: Path) -> None:
    for path in ("real/coco/val/1.PNG", "fake/coco/1.png", "fake/glide/1.webp", "fake/2.jpeg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    images = build(str(tmp_path)).catalogue().set_index("path")
    assert dict(images["method"]) == {
        "real/coco/val/1.PNG": "coco",
        "fake/2.jpeg": "fake",
        "fake/coco/1.png": "coco",
        "fake/glide/1.webp": "glide",
    }
    assert images.loc["fake/coco/1.png", "family"] == "other"
    assert images["image_id"].is_unique


def test_archives_beside_loose_images_count_like_folders(tmp_path: Path) -> None:
    files = {f"{label}/{n}.jpg": b"1" for label in ("real", "fake") for n in range(5)}
    unpack(tmp_path, {**files, "fake/more.zip": zip_of({f"gan/{n}.png": b"2" for n in range(3)})})
    images = build(str(tmp_path)).catalogue()
    assert images["method"].value_counts().to_dict() == {"real": 5, "fake": 5, "gan": 3}


def test_links_out_are_followed_where_that_is_allowed_but_not_in_circles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.jpg", "notes.txt", ".hidden.jpg"):
        (tmp_path / "elsewhere" / name).touch()
    for name in ("real", "fake"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    (tmp_path / "tree/real/coco").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "tree/real")
    (tmp_path / "tree/fake/b.jpg").touch()
    images = build(f"{tmp_path}/tree#follow-links").catalogue()
    assert list(images["path"]) == ["fake/b.jpg", "real/coco/a.jpg"]
    assert "1 files are no images by their names (.txt 1): left out" in caplog.text
    with pytest.raises(InputError, match="no image is in a folder real"):
        build(str(tmp_path / "tree"))
    assert "1 links that lead out of the folder (first: 'real/coco')" in caplog.text


def test_artifact_has_8_real_sets_and_25_generators() -> None:
    families = [method.family for method in METHODS.values()]
    assert [families.count(family) for family in FAMILIES] == [8, 13, 7, 5]
    both = {name for name, method in METHODS.items() if method.labels == (REAL, FAKE)}
    assert both == {"cycle_gan", "pro_gan"}
    assert METHODS["sfhq"].labels == (FAKE,)


@pytest.mark.parametrize(
    ("method", "label", "family"),
    [
        ("glide", FAKE, "diffusion"),
        ("pro_gan", REAL, "real"),
        ("coco", FAKE, "other"),  # a photograph that somebody has edited
        ("brand_new", FAKE, "other"),
    ],
)
def test_family(method: str, label: int, family: str) -> None:
    assert family_of(method, label) == family


def test_licence() -> None:
    assert licence_of("coco") == "CC-BY-4.0"
    assert licence_of("brand_new") == "unknown"


def catalogue_of(root: Path, *names: str, table: tuple[str, str] | None = None) -> pd.DataFrame:
    files = {name: name.encode() for name in names}
    if table:
        files[table[0]] = table[1].encode()
    return build(str(unpack(root, files))).catalogue().set_index("path")


@pytest.mark.parametrize(
    ("real", "fake", "splits"),
    [
        ("train/real/1.jpg", "test/fake/1.jpg", ["train", "test"]),
        ("Train/REAL/coco/1.jpg", "Validation/FAKE/glide/1.jpg", ["train", "val"]),
        ("real/train/1.jpg", "fake/testing/1.jpg", ["train", "test"]),
        ("0_real/1.jpg", "1_fake/1.jpg", ["", ""]),
        ("train/nature/1.jpg", "val/ai/1.jpg", ["train", "val"]),
        ("reals/1.jpg", "fakes/1.jpg", ["", ""]),
    ],
)
def test_trees_of_other_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, real: str, fake: str, splits: list[str]
) -> None:
    with caplog.at_level(logging.INFO):
        images = catalogue_of(tmp_path, real, fake)
    assert images.loc[[real, fake], "label"].to_list() == [REAL, FAKE]
    assert images.loc[[real, fake], "given_split"].to_list() == splits
    assert set(images["method"]) <= {"real", "fake", "coco", "glide"}
    assert " is real" in caplog.text
    assert " is fake" in caplog.text


def test_folders_that_each_hold_both_classes_are_methods(tmp_path: Path) -> None:
    names = [
        f"set/test/{top}{folder}/1.png"
        for top in ("biggan/", "progan/car/", "progan/cat/")
        for folder in ("0_real", "1_fake")
    ]
    images = build(str(unpack(tmp_path, dict.fromkeys(names, b"1")))).catalogue()
    assert len(images) == len(names)
    assert images["image_id"].is_unique
    assert set(images["given_split"]) == {"test"}
    assert images.groupby(["method", "category"]).size().to_dict() == {
        ("biggan", ""): 2,
        ("progan", "car"): 2,
        ("progan", "cat"): 2,
    }


def test_class_names_are_a_parameter(tmp_path: Path) -> None:
    root = unpack(tmp_path, {"authentic/1.jpg": b"1", "Tampered (CASIA)/1.jpg": b"2"})
    images = build(str(root), {REAL: ("authentic",), FAKE: ("tampered (casia)",)}).catalogue()
    assert images["label"].to_list() == [FAKE, REAL]


def test_an_imagefolder_of_hugging_face(tmp_path: Path) -> None:
    labelled = "file_name,label,text\n1.jpg,Real,a\nsub/2.jpg,fake,b\n"
    images = catalogue_of(
        tmp_path / "a", "train/1.jpg", "train/sub/2.jpg", table=("train/metadata.csv", labelled)
    )
    assert images["label"].to_dict() == {"train/1.jpg": REAL, "train/sub/2.jpg": FAKE}
    assert set(images["given_split"]) == {"train"}
    texts = "file_name,text\nreal/1.jpg,a\nfake/2.jpg,b\n"
    images = catalogue_of(tmp_path / "b", "real/1.jpg", "fake/2.jpg", table=("metadata.csv", texts))
    assert images["label"].to_dict() == {"real/1.jpg": REAL, "fake/2.jpg": FAKE}
    with pytest.raises(InputError, match=r"metadata.csv: label '0' is no class name; use one of"):
        catalogue_of(tmp_path / "c", "1.jpg", table=("metadata.csv", "file_name,label\n1.jpg,0\n"))


@pytest.mark.parametrize("where", ["x/.ipynb_checkpoints", "fake/@eaDir", "__MACOSX/real"])
def test_hidden_folders_are_no_generators(tmp_path: Path, where: str) -> None:
    files = {"real/1.jpg": b"1", "fake/2.jpg": b"2", f"{where}/3.jpg": b"3"}
    (tmp_path / "x.zip").write_bytes(zip_of(files))
    for origin in (tmp_path / "x.zip", unpack(tmp_path / "tree", files)):
        assert len(build(str(origin)).catalogue()) == 2


def test_a_relative_origin_that_is_not_there_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"looked for {tmp_path}/none, .* give an absolute path"):
        build("none")
