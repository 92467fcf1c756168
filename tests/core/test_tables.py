"""Tables come back as they were written, and wrong ones are named."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core import tables
from src.core.cli import InputError
from src.core.tables import compact, read_table, require_both_classes, write_csv, write_table
from src.inference.predictions import PREDICTIONS

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def predictions(category: str = "", distance: float = 0.5, **changes: object) -> pd.DataFrame:
    row = {
        "image_id": ["a/1", "b/1"],
        "split": ["val", "test"],
        "label": [0, 1],
        "method": ["a", "b"],
        "family": ["real", "gan"],
        "category": [category, ""],
        "group": ["a/1", "b/1"],
        "logit": [0.1, -2.5],
        "distance": [distance, 0.25],
    }
    return pd.DataFrame({**row, **changes})


@given(category=TEXT, distance=st.floats(0, 2))
def test_a_table_survives_the_disk(
    tmp_path_factory: pytest.TempPathFactory, category: str, distance: float
) -> None:
    path = tmp_path_factory.mktemp("t") / "p.csv"
    table = predictions(category, distance)
    write_table(table, path, PREDICTIONS)
    pd.testing.assert_frame_equal(read_table(path, PREDICTIONS), table)


def test_the_text_is_plain_csv(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_table(predictions("face"), path, PREDICTIONS)
    assert path.read_bytes().decode() == (
        "image_id,split,label,method,family,category,group,logit,distance\n"
        "a/1,val,0,a,real,face,a/1,0.1,0.5\n"
        "b/1,test,1,b,gan,,b/1,-2.5,0.25\n"
    )


def test_pieces_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.concat([predictions(image_id=[f"a/{i}", f"b/{i}"]) for i in range(5)])
    table.iloc[-1, list(table).index("category")] = "a, b"  # in the last piece
    write_table(table, tmp_path / "whole.csv", PREDICTIONS)
    monkeypatch.setattr(tables, "_PIECE", 3)
    write_table(table, tmp_path / "pieces.csv", PREDICTIONS)
    assert (tmp_path / "pieces.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert b'"a, b"' in (tmp_path / "whole.csv").read_bytes()


def test_compact_changes_no_value() -> None:
    parts = [predictions(f"{i}") for i in range(4)]
    parts = [part.astype({"split": "category"}).set_index(part.index + 7) for part in parts]
    table = pd.concat(parts)
    pd.testing.assert_frame_equal(compact(table), table)


@pytest.mark.parametrize("text", ["a,b", 'a"b', "a\nb", "a\rb"])
def test_texts_with_what_csv_gives_a_meaning_are_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(tables, "_PIECE", 1)  # it is met when the first piece is written already
    path = tmp_path / "p.csv"
    table = predictions().assign(category=["face", text])
    write_table(table, path, PREDICTIONS)
    assert list(read_table(path, PREDICTIONS)["category"]) == ["face", text]
    assert path.read_text().splitlines()[1].startswith('"a/1","val",0,')
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_wanted_columns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_table(predictions(), path, PREDICTIONS)
    assert list(read_table(path, PREDICTIONS, ["distance", "label"])) == ["distance", "label"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("distance", "distanse", ["distance"]),
        ("0.25", "high", ["high"]),
        ("b/1,test,1", "b/1,test,7", ["label 7", "[0, 1]"]),
        ("b/1,test,1", "b/1,exam,1", ["split 'exam'", "'train', 'val', 'test'"]),
        ("b/1,test", "a/1,test", ["image_id 'a/1'", "more than once"]),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    path = tmp_path / "p.csv"
    write_table(predictions(), path, PREDICTIONS)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(InputError) as error:
        read_table(path, PREDICTIONS)
    for word in ["p.csv", *words]:
        assert word in str(error.value)


def test_a_wrong_table_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="label 2"):
        write_table(predictions(label=[0, 2]), tmp_path / "p.csv", PREDICTIONS)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_class_is_named() -> None:
    require_both_classes(pd.Series([0, 1]), "split 'val'")
    for labels, missing in (([0, 0], "fake"), ([1], "real"), ([], "real")):
        with pytest.raises(InputError, match=f"^split 'val': no {missing} image among"):
            require_both_classes(pd.Series(labels, dtype="int64"), "split 'val'")


def test_a_table_for_readers_has_six_digits_and_unix_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    write_csv(pd.DataFrame({"name": ["a,b", "c"], "value": [1 / 3, 1e-9]}), path)
    assert path.read_bytes() == b'name,value\n"a,b",0.333333\nc,1e-09\n'


NAMES = [
    "a\nb",
    "a\r\nb",
    'a"b',
    '""',
    "a,b",
    "a\0b",
    "\ufeffa",
    " a ",
    "",
    'x\n"y",\r\nz',
    "\u2028",
]


@pytest.mark.parametrize("rows", [2, 20_000])  # within one of Arrow's blocks, and beyond
def test_any_name_survives_at_any_size(tmp_path: Path, rows: int) -> None:
    names = [f"m/{number}/{NAMES[number % len(NAMES)]}" for number in range(rows)]
    table = pd.DataFrame({"image_id": names, "category": [name[-3:] for name in names]})
    schema = {name: PREDICTIONS[name] for name in ("image_id", "category")}
    write_table(table, tmp_path / "t.csv", schema)
    found = read_table(tmp_path / "t.csv", schema)
    assert found["image_id"].tolist() == names
    assert found["category"].tolist() == table["category"].tolist()


@pytest.mark.parametrize("name", ["caf\udce9.jpg", "\ud800"])
def test_a_name_that_is_no_unicode_is_refused_by_name(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"image_id": ["a", name]}, dtype=object)
    with pytest.raises(InputError, match=r"image_id '.*\\ud.* is not valid Unicode; rename"):
        write_table(table, tmp_path / "t.csv", {"image_id": PREDICTIONS["image_id"]})
    assert list(tmp_path.iterdir()) == []
