"""A directory as a source: ArtiFact's layout with its traps, and the plain tree."""

import logging
from pathlib import Path

import pandas as pd
import pytest

from src.command import InputError
from src.schema import FAKE, FAMILIES, REAL
from src.sources.folder import build
from src.sources.methods import METHODS, family_of, licence_of
from tests.make_data import METHODS as MADE
from tests.make_data import make_artifact_folder, make_class_folder


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact_folder(tmp_path_factory.mktemp("data") / "artifact", 3, 16)


def add_method(root: Path, method: str, rows: list[str]) -> Path:
    """Write `<method>/metadata.csv` and a file for every path in it that stays inside."""
    folder = root / method
    folder.mkdir(parents=True)
    header = "filename,image_path,target,category\n"
    (folder / "metadata.csv").write_text(header + "".join(f"{row}\n" for row in rows))
    for row in rows:
        path = Path(row.split(",")[1])
        if path.name and not path.is_absolute() and ".." not in path.parts:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(f"{method}/{path}".encode())
    return root


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


def test_the_images_come_in_the_order_of_the_rows(artifact: Path) -> None:
    source = build(str(artifact))
    images = source.catalogue().sample(frac=1, random_state=1)
    fetched = list(source.fetch(images))
    assert [image_id for image_id, _ in fetched] == list(images["image_id"])
    assert all(data == (artifact / image_id).read_bytes() for image_id, data in fetched)


def test_the_label_is_read_row_by_row_and_the_family_follows_it(tmp_path: Path) -> None:
    add_method(tmp_path, "cycle_gan", ["a.jpg,x/a.jpg,0,horse", "a.jpg,y/a.jpg,4,zebra"])
    images = build(str(tmp_path)).catalogue()
    assert list(images["label"]) == [REAL, FAKE]
    assert list(images["family"]) == ["real", "gan"]


def test_columns_are_found_by_name_and_others_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "glide"
    folder.mkdir()
    (folder / "metadata.csv").write_text("target,extra,category,image_path\n6,1,,a.jpg\n")
    assert build(str(tmp_path)).catalogue()["label"].tolist() == [FAKE]


def test_the_origin_is_a_name_and_never_a_path(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provenance = build(str(artifact)).provenance
    assert provenance.origin == "artifact"
    assert provenance.licences["ffhq"] == "CC-BY-NC-SA-4.0"
    monkeypatch.chdir(artifact)
    assert build(".").provenance == provenance


def test_a_row_that_is_repeated_counts_once(tmp_path: Path) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,6,x", "a.jpg,a.jpg,6,x"])
    assert len(build(str(tmp_path)).catalogue()) == 1


def test_an_image_with_both_labels_is_refused(tmp_path: Path) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,6,x", "a.jpg,a.jpg,0,x"])
    with pytest.raises(InputError, match=r"'glide/a\.jpg' is listed twice, with different"):
        build(str(tmp_path))


@pytest.mark.parametrize("path", ["../b.jpg", "/etc/a.jpg", "a/../../b.jpg", "..", ""])
def test_a_path_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    add_method(tmp_path, "glide", [f"b.jpg,{path},6,x"])
    with pytest.raises(InputError, match=r"metadata\.csv: image_path .* is not a path below glide"):
        build(str(tmp_path))


@pytest.mark.parametrize("column", ["image_path", "target", "category"])
def test_a_missing_column_is_named(artifact: Path, tmp_path: Path, column: str) -> None:
    table = pd.read_csv(artifact / "glide" / "metadata.csv")
    (tmp_path / "glide").mkdir()
    table.drop(columns=column).to_csv(tmp_path / "glide" / "metadata.csv", index=False)
    with pytest.raises(InputError, match=rf"glide.metadata\.csv: .*{column}"):
        build(str(tmp_path))


def test_a_target_that_is_no_number_is_refused(tmp_path: Path) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,fake,x"])
    with pytest.raises(InputError, match=r"glide.metadata\.csv: .*fake"):
        build(str(tmp_path))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,6,x", "b.jpg,b.jpg,6,x"])
    (tmp_path / "glide" / "b.jpg").unlink()
    source = build(str(tmp_path))
    missing = source.prepare(source.catalogue())
    assert list(missing) == ["glide/b.jpg"]
    assert "image_path is relative to the folder of metadata.csv" in missing["glide/b.jpg"]


def test_the_plan_is_to_read_every_file_that_is_there(tmp_path: Path) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,6,x", "b.jpg,bb.jpg,6,x"])
    (tmp_path / "glide" / "bb.jpg").unlink()
    source = build(str(tmp_path))
    plan = source.plan(source.catalogue())
    assert plan.bytes.tolist() == [len("glide/a.jpg"), 0]
    assert (plan.transfer, plan.requests) == (len("glide/a.jpg"), 2)
    assert not plan.kept.any()


def test_a_folder_without_metadata_is_pointed_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_method(tmp_path, "glide", ["a.jpg,a.jpg,6,x"])
    (tmp_path / "notes").mkdir()
    with caplog.at_level(logging.WARNING):
        build(str(tmp_path))
    assert "without metadata.csv: notes" in caplog.text


@pytest.mark.parametrize("origin", ["", "no/such/directory"])
def test_no_such_directory(origin: str) -> None:
    with pytest.raises(InputError, match=rf"download\.origin = '{origin}': no such directory"):
        build(origin)


def test_neither_layout(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    with pytest.raises(InputError, match=r"neither .*metadata\.csv .* nor the folders"):
        build(str(tmp_path))


def test_a_plain_tree(tmp_path: Path) -> None:
    make_class_folder(tmp_path / "tree", 2, 16)
    source = build(str(tmp_path / "tree"))
    images = source.catalogue()
    assert list(images["image_id"])[:3] == [
        "real/real/0000.jpg",
        "real/real/0001.jpg",
        "fake/fake/0000.jpg",
    ]
    assert list(images["family"]) == ["real", "real", "other", "other"]
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


def test_links_are_followed_but_not_in_circles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.jpg", "notes.txt", ".hidden.jpg"):
        (tmp_path / "elsewhere" / name).touch()
    for name in ("real", "fake"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    (tmp_path / "tree/real/coco").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path / "tree/real")
    images = build(str(tmp_path / "tree")).catalogue()
    assert list(images["path"]) == ["real/coco/a.jpg"]
    assert "1 files are no images" in caplog.text


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
