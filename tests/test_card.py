import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from src import card as stage
from src.card import Documents, model_card
from src.core.cli import InputError
from src.dataset.manifest import Manifest, Method

METRICS: dict[str, Any] = {
    "calibrate": {
        "calibrate": {
            "temperature": 0.75,
            "temperature_low": 0.5,
            "temperature_high": 1.25,
            "threshold": 0.625,
            "ood_distance": 0.375,
            "unsure_low": 0.25,
            "unsure_high": 0.875,
            "real_groups": 70,
            "fake_groups": 110,
        }
    },
    "evaluate": {
        "test": {
            f"{name}{end}": value
            for name in (
                *("mcc", "ap", "auroc", "balanced_accuracy"),
                *("brier_error", "calibration_error"),
                *("brier_error_before", "calibration_error_before"),
            )
            for end, value in (("", 0.654321), ("_low", 0.5), ("_high", 0.75))
        },
        "confusion": {"true_positives": 10, "false_negatives": 30, "true_negatives": 1200},
        "recall": {"glide": 0.25, "gan|x": 0.875, "*`_$": 0.125},
        "specificity": {"coco": 1.0},
        "ood_share": 0.0625,
        "sizes": [
            {"size": "128 to 255 px", "label": name, "images": 40, "groups": 9, "correct": 0.75}
            for name in ("fake", "real")
        ],
        "verdicts": {"judged": 0.5625, "judged_right": 0.9375},
        "slices": {"tested": 12, "worse_than_rest": 3},
    },
    "shortcuts": {"auroc": {"mean_colour": {"value": 0.6, "low": 0.55, "high": 0.65}}},
    "split": {
        "counts": {
            "train": {
                "fake": {"by_method": {"gan|x": 300}},
                "real": {"by_method": {"coco": 310}},
            },
            "test": {
                "fake": {"by_method": {"gan|x": 20, "glide": 20}},
                "real": {"by_method": {"coco": 1200}},
            },
        }
    },
    "train": {
        "train": {"parameters": 944066, "train_images": 1350, "kept_epoch": 18, "exact": True}
    },
    "config": {"name": "beit3_tiny", "view": {"size": 64, "resize": False}},
    "exported": {"trained_on": "Trained on artifact: 610 images of 2 methods."},
}
MANIFEST = Manifest(
    methods={
        name: Method(origin="o", version="1", licence=licence, real=0, fake=1, shards={})
        for name, licence in (("glide", "MIT"), ("gan|x", "CC-BY-4.0"), ("coco", "CC-BY-2.0"))
    },
    missing=(),
)


def card_of(**changes: Any) -> str:
    return model_card(Documents(**{**METRICS, **changes}), MANIFEST)


def test_figures_stand_with_their_intervals_and_methods_with_their_licences() -> None:
    card = re.sub(" +", " ", card_of())

    assert "| MCC | 0.654 | 0.500 to 0.750 |" in card
    assert "| mean colour | 0.600 | 0.550 to 0.650 |" in card
    assert "| glide | fake | 0 | 20 | 0.250 | MIT |" in card
    assert "| gan\\|x | fake | 300 | 20 | 0.875 | CC-BY-4.0 |" in card
    assert "| coco | real | 310 | 1200 | 1.000 | CC-BY-2.0 |" in card
    assert "1,240 test images" in card
    assert "| 128 to 255 px | real | 40 | 0.750 |" in card
    assert "A temperature of 0.750 (0.500 to\n1.250)" in card
    assert card.startswith("> Trained on artifact: 610 images of 2 methods.\n\n# Model card")
    assert "{" not in card
    assert "nan" not in card


def test_limits_name_what_fails() -> None:
    card = card_of()

    assert "- It misses most of `glide`: 25.0% of its test images are called fake." in card
    assert "- It misses most of `` *`_$ ``: 12.5% of its" in card
    assert r"| \*\`\_$ " in card
    assert "misses most of `gan" not in card
    assert "3 of 12" in card
    assert "6.2% of the test images lie unlike" in card
    assert "All its test methods were trained on" in card


@pytest.mark.parametrize(
    ("exact", "said"), [(True, "any x86-64 processor with AVX2"), (False, "same kind of machine")]
)
def test_it_says_where_training_gives_the_same_bits(exact: bool, said: str) -> None:
    train = {**METRICS["train"]["train"], "exact": exact}
    assert f"to the bit on {'' if exact else 'the '}{said}" in card_of(train={"train": train})


def test_what_was_held_out_is_told() -> None:
    evaluate = copy.deepcopy(METRICS["evaluate"])
    evaluate["holdout"] = {"mcc": 0.125, "mcc_low": -0.25, "mcc_high": 0.5}
    card = card_of(evaluate=evaluate)

    assert "never trained on, its MCC is 0.125 (-0.250 to 0.500)" in card
    assert "All its test methods" not in card


def test_the_stage_writes_the_same_bytes_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "read_manifest", lambda _: MANIFEST)
    for name, document in METRICS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    arguments = [*(f"{name}.json" for name in Documents._fields), "raw", "card.md"]
    written = []
    for _ in range(2):
        stage.main(arguments)
        written.append((tmp_path / "card.md").read_bytes())
    assert written[0] == written[1]
    assert written[0].endswith(b"fetch it.\n")

    (tmp_path / "calibrate.json").write_text("{}")
    with pytest.raises(InputError, match="no 'calibrate' in the metrics: run `dvc repro`"):
        stage.main(arguments)


def test_the_card_says_what_verdicts_rest_on() -> None:
    card = " ".join(card_of().split())
    assert '"fake" from 0.875 on, "real" below 0.250 and "unsure" between' in card
    assert "rest on 70 independent groups of photographs and 110 of fakes" in card
    assert "56.2% of the test images have a verdict, and of these 93.8% are called right" in card
