"""Which images are drawn: what is asked for, balanced, by rank, and nested."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.cli import InputError
from src.core.tables import FAKE, REAL
from src.sources.shared.subset import SubsetParams, choose, draw, spread

# A method with both classes, as cycle_gan and pro_gan are, and one with few images.
SIZES = {("coco", REAL): 5, ("cycle_gan", REAL): 30, ("cycle_gan", FAKE): 20, ("glide", FAKE): 40}
FAMILIES = {"coco": "real", "cycle_gan": "gan", "glide": "diffusion"}
LICENCES = {"coco": "CC-BY-4.0", "cycle_gan": "BSD", "glide": "MIT"}
CATALOGUE = pd.DataFrame(
    [
        {
            "image_id": f"{method}/{label}/{n}",
            "method": method,
            "family": FAMILIES[method] if label == FAKE else "real",
            "category": "even" if n % 2 == 0 else "odd",
            "label": label,
        }
        for (method, label), size in SIZES.items()
        for n in range(size)
    ]
)
seeds = st.integers(0, 2**64 - 1)
few = settings(max_examples=25)


def asking(**changes: Any) -> SubsetParams:
    values: dict[str, Any] = {
        "methods": None,
        "categories": None,
        "allow_licences": None,
        "images_per_method": 10,
        "balance_classes": False,
        "seed": 0,
    }
    return SubsetParams(**{**values, **changes})


def counts(images: pd.DataFrame) -> dict[Any, int]:
    return dict(images.groupby(["method", "label"]).size())


@few
@given(n=st.integers(1, 50), seed=seeds)
def test_a_draw_has_as_many_of_each_method_and_class_as_asked_or_all(n: int, seed: int) -> None:
    drawn = draw(CATALOGUE, asking(images_per_method=n, seed=seed))
    assert counts(drawn) == {key: min(n, size) for key, size in SIZES.items()}


@few
@given(n=st.integers(1, 40), more=st.integers(0, 10), seed=seeds, balance=st.booleans())
def test_of_each_method_and_class_a_smaller_draw_is_the_beginning_of_a_larger_one(
    n: int, more: int, seed: int, balance: bool
) -> None:
    asked = {"seed": seed, "balance_classes": balance}
    small = draw(CATALOGUE, asking(images_per_method=n, **asked))
    large = draw(CATALOGUE, asking(images_per_method=n + more, **asked))
    for (method, label), rows in small.groupby(["method", "label"]):
        same = large[(large["method"] == method) & (large["label"] == label)].head(len(rows))
        assert list(rows["image_id"]) == list(same["image_id"])


@few
@given(n=st.integers(1, 50), seed=seeds)
def test_balanced_classes_are_equal_and_methods_within_them_as_equal_as_can_be(
    n: int, seed: int
) -> None:
    drawn = draw(CATALOGUE, asking(images_per_method=n, seed=seed, balance_classes=True))
    of_class = drawn["label"].value_counts()
    assert of_class[REAL] == of_class[FAKE]
    taken = counts(drawn)
    for label in (REAL, FAKE):
        most = max(count for key, count in taken.items() if key[1] == label)
        not_full = [c for key, c in taken.items() if key[1] == label and c < min(n, SIZES[key])]
        assert all(count >= most - 1 for count in not_full)


@few
@given(shuffle=st.integers(0, 2**32 - 1), seed=seeds)
def test_the_order_of_the_rows_does_not_matter(shuffle: int, seed: int) -> None:
    shuffled = CATALOGUE.sample(frac=1, random_state=shuffle)
    params = asking(images_per_method=7, seed=seed)
    pd.testing.assert_frame_equal(draw(shuffled, params), draw(CATALOGUE, params))


@few
@given(seed=seeds)
def test_a_draw_does_not_depend_on_other_methods(seed: int) -> None:
    alone = CATALOGUE[CATALOGUE["method"] == "cycle_gan"]
    among = draw(CATALOGUE, asking(seed=seed))
    expected = among[among["method"] == "cycle_gan"]["image_id"]
    assert list(draw(alone, asking(seed=seed))["image_id"]) == list(expected)


def test_another_seed_draws_other_images() -> None:
    first, second = (set(draw(CATALOGUE, asking(seed=seed))["image_id"]) for seed in (0, 1))
    assert 5 < len(first & second) < len(first) - 5


def test_a_method_with_fewer_images_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    draw(CATALOGUE, asking(images_per_method=25))
    assert caplog.messages == ["fewer than images_per_method = 25: coco 5 real, cycle_gan 20 fake"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"methods": ("coco", "glide")}, {("coco", REAL): 5, ("glide", FAKE): 10}),
        # A family is of images: the real ones of cycle_gan are none of a GAN's.
        (
            {"methods": ("coco", "gan")},
            {("coco", REAL): 5, ("cycle_gan", FAKE): 10},
        ),
        (
            {"methods": ("real", "diffusion")},
            {("coco", REAL): 5, ("cycle_gan", REAL): 10, ("glide", FAKE): 10},
        ),
        (
            {"categories": ("even",), "images_per_method": 100},
            {("coco", REAL): 3}
            | {("cycle_gan", REAL): 15, ("cycle_gan", FAKE): 10, ("glide", FAKE): 20},
        ),
        (
            {"allow_licences": ("MIT", "CC-BY-4.0")},
            {("coco", REAL): 5, ("glide", FAKE): 10},
        ),
    ],
)
def test_only_what_is_asked_for_is_drawn(asked: dict[str, Any], expected: Any) -> None:
    assert counts(choose(CATALOGUE, LICENCES, asking(**asked))) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"methods": ("gilde",)},
            r"download\.methods: 'gilde' is unknown; choose .*'gan', 'glide'",
        ),
        ({"categories": ("cat",)}, r"download\.categories: 'cat' is unknown; .*'even', 'odd'"),
        ({"allow_licences": ("mit", "MIT")}, "allow_licences leave: no real image among"),
        (
            {"methods": ("coco", "cycle_gan"), "allow_licences": ("CC-BY-4.0",)},
            r"names 'cycle_gan', but download\.allow_licences lacks its licence, 'BSD'",
        ),
        ({"methods": ("glide",)}, "leave: no real image among .*; both classes"),
        ({"methods": ("real",)}, "no fake image among"),
    ],
)
def test_what_cannot_be_had_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(CATALOGUE, LICENCES, asking(**asked))


def test_what_a_licence_excludes_is_named(caplog: pytest.LogCaptureFixture) -> None:
    allowed = ("CC-BY-4.0", "BSD")
    choose(CATALOGUE, LICENCES, asking(methods=("real", "gan"), allow_licences=allowed))
    assert "lacks their licence" not in caplog.text
    choose(CATALOGUE, LICENCES, asking(allow_licences=allowed))
    assert "allow_licences lacks their licence: glide (MIT)" in caplog.text


def test_one_list_of_licences_serves_for_every_data_set(caplog: pytest.LogCaptureFixture) -> None:
    # Apache-2.0 is of methods that are not in this catalogue.
    allowed = (*LICENCES.values(), "Apache-2.0")
    assert len(choose(CATALOGUE, LICENCES, asking(allow_licences=allowed))) == 35
    assert "allow_licences" not in caplog.text
    choose(CATALOGUE, LICENCES, asking(allow_licences=(*allowed, "mit")))
    assert "download.allow_licences: ['mit']: of no method; there are ['Apache-2.0'" in caplog.text


def test_an_image_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(InputError, match="lists 'glide/1/39' twice"):
        draw(pd.concat([CATALOGUE, CATALOGUE.tail(1)]), asking())


@given(available=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_a_larger_total_takes_at_least_as_many_of_each(
    available: list[int], data: st.DataObject
) -> None:
    limits = np.array(available)
    total = data.draw(st.integers(0, sum(available)))
    taken = spread(limits, total)
    assert taken.sum() == total
    assert ((taken >= 0) & (taken <= limits)).all()
    more = spread(limits, data.draw(st.integers(total, sum(available))))
    assert (more >= taken).all()
