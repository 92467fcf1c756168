"""Splits that studies ask for: the main one but for its fold, or for a generator left out."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.params import load_params
from src.core.tables import HOLDOUT, read_table, write_parquet
from src.dataset.columns import SPLIT_TABLE
from src.dataset.sampling import SAMPLING, representative_keys
from src.splitting.assignment import SplitParams
from studies.shared import split as study
from studies.shared.split import generators, without
from tests.conftest import ROOT
from tests.helpers.make_metadata import make_metadata
from tests.helpers.splitting import balanced_split


@pytest.fixture
def metadata() -> pd.DataFrame:
    return make_metadata(images_per_method=40)


@pytest.fixture
def params() -> SplitParams:
    return load_params(SplitParams, "split", ROOT / "params.yaml")


def test_a_name_is_a_generator_or_a_family(metadata: pd.DataFrame) -> None:
    assert generators(metadata, "glide") == ("glide",)
    assert generators(metadata, "gan") == ("stylegan1", "stylegan2")


@pytest.mark.parametrize("name", ["coco", "real", "nothing"])
def test_what_has_no_generated_image_is_refused_with_what_there_is(
    metadata: pd.DataFrame, name: str
) -> None:
    with pytest.raises(
        InputError, match=rf"'{name}' of .*leave_out is no generator.*'gan', 'glide'"
    ):
        generators(metadata, name)


def test_what_is_left_out_joins_what_is_held_out_already(params: SplitParams) -> None:
    held = replace(params, holdout_methods=("glide",))
    assert without(held, ("stylegan2", "glide")).holdout_methods == ("glide", "stylegan2")


def run_study(
    folder: Path, metadata: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *change: str
) -> pd.DataFrame:
    monkeypatch.chdir(folder)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    metadata = metadata.assign(group_key=representative_keys(metadata))
    write_parquet(metadata, folder / "metadata.parquet", SAMPLING)
    study.main([*change, "metadata.parquet", "out/splits.csv", "out/split.json"])
    return read_table(folder / "out/splits.csv", SPLIT_TABLE)


def test_a_fold_is_the_main_split_with_that_fold(
    tmp_path: Path,
    metadata: pd.DataFrame,
    params: SplitParams,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    splits = run_study(tmp_path, metadata, monkeypatch, "--fold", "3")
    expected = balanced_split(metadata, replace(params, fold=3))
    pd.testing.assert_frame_equal(splits, expected, check_dtype=False)
    assert (tmp_path / "out/split.json").is_file()


def test_the_folds_test_every_group_once(metadata: pd.DataFrame, params: SplitParams) -> None:
    tested: list[str] = []
    for fold in range(5):
        splits = balanced_split(metadata, replace(params, fold=fold))
        tested += splits.loc[splits["split"] == "test", "group"].unique().tolist()
    assert len(tested) == len(set(tested))


def test_a_family_is_never_trained_on(
    tmp_path: Path, metadata: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = run_study(tmp_path, metadata, monkeypatch, "--without", "gan")
    assert set(splits.loc[splits["family"] == "gan", "split"]) == {HOLDOUT}
    assert set(splits.loc[splits["split"] == HOLDOUT, "method"]) == {"stylegan1", "stylegan2"}


def test_a_fold_that_does_not_exist_is_refused(
    tmp_path: Path, metadata: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"split\.fold = 9.*folds 0 to 4"):
        run_study(tmp_path, metadata, monkeypatch, "--fold", "9")
