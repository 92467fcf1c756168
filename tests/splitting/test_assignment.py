"""Splits that a data set gives, and methods that are held out; test_split.py has the rest."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.core.cli import InputError
from src.core.hashing import image_keys, ranks
from src.core.tables import FAKE, HOLDOUT, REAL
from src.evaluate import evaluate
from src.evaluation.calibration import Calibration
from src.evaluation.results import EvaluateParams
from src.splitting.assignment import LEFT_OUT, SplitParams
from tests.helpers.make_predictions import make_measures
from tests.helpers.splitting import assigned, drawn, metrics_of
from tests.test_split import random_metadata, split_params


def params(**changes: Any) -> SplitParams:
    values: dict[str, Any] = {
        "test_fraction": 0.2,
        "val_fraction": 0.1,
        "fold": 0,
        "honour_given_split": True,
        "holdout_methods": (),
        "seed": 0,
        "images_per_class": None,
        "match_categories": True,
    }
    return SplitParams(**{**values, **changes})


def images(method: str, given: list[str], label: int = REAL) -> pd.DataFrame:
    """Return a row of metadata for each element of `given`, each image its own group."""
    image_id = [f"{method}/{n}" for n in range(len(given))]
    table = pd.DataFrame({"image_id": image_id, "method": method, "given_split": given})
    table["family"] = "real" if label == REAL else "gan"
    table["key"] = image_keys(image_id)
    return table.assign(
        label=label, category="", group=table["image_id"], shard="s.tar", offset=0, length=1
    )


def test_an_image_stays_where_its_data_set_has_it() -> None:
    given = ["train", "val", "test"] * 20
    assert list(assigned(images("faces", given), params())) == given


def test_there_are_no_folds_where_the_data_set_gives_every_split() -> None:
    table = images("faces", ["train", "val", "test"] * 20)
    with pytest.raises(InputError, match=r"split\.fold = 3: .* all folds would be the same"):
        assigned(table, params(fold=3))
    assigned(table, params(fold=3, honour_given_split=False))


def test_training_images_give_a_validation_set_where_there_is_none() -> None:
    given = ["train"] * 800 + ["test"] * 200
    split = assigned(images("cifake", given), params())
    assert (split[800:] == "test").all()
    counts = pd.Series(split[:800]).value_counts()
    assert counts["train"] + counts["val"] == 800
    assert counts["val"] == pytest.approx(100, abs=25)  # each image by its own rank


def test_without_a_given_split_images_are_drawn_as_ever() -> None:
    table = images("coco", [""] * 300)
    as_ever = assigned(table, params(honour_given_split=False))
    assert (assigned(table, params()) == as_ever).all()


@pytest.mark.parametrize("fold", [0, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_groups_in_the_order_of_their_ranks_share_a_stratum_by_their_size(
    seed: int, fold: int
) -> None:
    table = random_metadata(seed)
    table["first"] = (
        table.sort_values(["label", "key"]).groupby("group")["image_id"].transform("first")
    )
    found = assigned(table, params(honour_given_split=False, seed=seed, fold=fold))
    split = pd.Series(found, table["image_id"])
    size = table["first"].value_counts()
    firsts = table[table["image_id"] == table["first"]]
    for _, stratum in firsts.groupby(["label", "method", "category"]):
        rank = ranks(stratum["key"].to_numpy(), seed)
        sizes = size[stratum["image_id"]].to_numpy()[np.argsort(rank)]
        share = (np.cumsum(sizes) - sizes) / sizes.sum()
        place = (share + ranks(np.sort(rank)[:1], seed) / 2.0**64) % 1
        after_test = (place - (fold + 1) * 0.2) % 1
        expected = np.select([place // 0.2 == fold, after_test < 0.1], ["test", "val"], "train")
        assert list(split[stratum["image_id"].to_numpy()[np.argsort(rank)]]) == list(expected)
    assert (split[table["image_id"]].to_numpy() == split[table["first"]].to_numpy()).all()


def test_given_splits_are_not_honoured_unasked() -> None:
    table = images("cifake", ["train"] * 300)
    assert "test" in assigned(table, params(honour_given_split=False))


def test_copies_that_a_data_set_has_on_both_sides_are_not_trained_on() -> None:
    table = images("faces", ["train", "test", "val", "train", ""]).assign(group=list("aabba"))
    split = assigned(table, params())
    assert list(split) == [LEFT_OUT, "test", "val", LEFT_OUT, "test"]


def test_a_held_out_method_is_in_no_other_split() -> None:
    table = pd.concat([images("coco", [""] * 50), images("gan", [""] * 50, FAKE)])
    split = assigned(table, params(holdout_methods=("gan",)))
    assert set(split[50:]) == {HOLDOUT}
    assert HOLDOUT not in split[:50]


def test_fakes_of_training_photographs_are_not_held_out_but_left_out() -> None:
    photographs, fakes = images("photo", [""] * 100), images("gan", [""] * 100, FAKE)
    table = pd.concat([photographs, fakes.assign(group=photographs["group"])])
    split = assigned(table, params(holdout_methods=("gan",)))
    assert set(split[100:]) == {HOLDOUT, LEFT_OUT}
    assert ((split[100:] == HOLDOUT) == (split[:100] == "test")).all()


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"split\.holdout_methods: 'gna' is unknown; .*'gan'"):
        assigned(images("gan", [""] * 9, FAKE), params(holdout_methods=("gna",)))


def test_what_is_held_out_is_all_kept_and_unbalances_nothing() -> None:
    table = pd.concat(
        [
            images("coco", [""] * 100),
            images("gan", [""] * 100, FAKE),
            images("new", [""] * 30, FAKE),
        ]
    )
    split = drawn(table, split_params(holdout_methods=("new",)))
    assert (split == HOLDOUT).sum() == 30
    metrics = metrics_of(table, split)
    assert metrics["counts"][HOLDOUT] == {
        "fake": {"images": 30, "by_method": {"new": 30}, "by_category": {"": 30}}
    }
    assert (metrics["leaked_groups"], HOLDOUT in metrics["imbalance"]) == (0, False)
    kept = table["label"][~split.isin([LEFT_OUT, HOLDOUT])].value_counts()
    assert kept[REAL] == kept[FAKE] == metrics["images_per_class"]


def test_what_is_held_out_is_judged_apart_against_the_other_class_of_test() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (split, label, method, 3 * label * seen + rng.random() - 1.5)
        for split, label, method, seen in (
            *[(s, label, m, 1) for s in ("val", "test") for label, m in enumerate(("coco", "gan"))],
            (HOLDOUT, FAKE, "new", 0),
        )
        for _ in range(40)
    ]
    table = pd.DataFrame(rows, columns=["split", "label", "method", "logit"])
    ids = [str(n) for n in range(len(table))]
    table = table.assign(image_id=ids, group=ids, category="", distance=0.5)
    table["family"] = np.where(table["label"] == REAL, "real", "gan")
    asked = EvaluateParams(
        bootstrap_rounds=20,
        confidence=0.95,
        calibration_bins=10,
        min_groups=1,
        worst_images=1,
        seed=0,
    )
    frozen = Calibration(temperature=1.0, threshold=0.5, ood_distance=1.0)
    document, _ = evaluate(table, make_measures(table), frozen, asked)
    assert document["test"]["auroc"] == 1
    assert document["recall"] == {"gan": 1.0}
    assert document["holdout"]["recall"] == {"new": 0.0}
    assert document["holdout"]["auroc"] == pytest.approx(0.5, abs=0.2)
    without, _ = evaluate(table[table["split"] != HOLDOUT], make_measures(table), frozen, asked)
    assert without == {key: value for key, value in document.items() if key != "holdout"}
