"""How fast half a million predictions are judged, against a loop over scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from bench.results import Figure, Outcome, at_least, at_most
from bench.timing import in_child, interleaved, medians, ratio, repeats
from src.core.arrays import FloatArray
from src.core.tables import FAKE
from src.evaluation.intervals import bootstrap
from src.evaluation.metrics import average_precision, confusion, outcomes
from src.evaluation.ranking import Ranking, auroc, mcc
from src.evaluation.results import EvaluateParams, compute_results

IMAGES, BOOTSTRAPS, METHODS = 500_000, 1000, 16
# Bootstrap rounds in one repeat: enough for a second, and the loop takes as long for one of them.
OURS, THEIRS, REPEATS = 200, 1, 3
THRESHOLD = 0.5


def run(scale: float, folder: Path) -> Outcome:  # noqa: ARG001 - needs no files
    """Compare a round of MCC, AUROC and AP; then judge with all figures, curves and slices."""
    images = max(500, round(IMAGES * scale))
    test = predictions(images)
    costs = interleaved(
        repeated := repeats(REPEATS, scale),
        {"here": lambda: ours(test, OURS), "loop": lambda: scikit_learn(test, THEIRS)},
    )
    rounds = max(20, round(BOOTSTRAPS * scale))
    _, whole = in_child(judge_all, images, rounds)
    slower = ratio(costs, "loop", "here", "cpu")
    return Outcome(
        [
            Figure(
                "a round of the bootstrap of MCC, AUROC and AP",
                "scikit-learn on resampled rows",
                None if slower is None else slower * OURS / THEIRS,
                at_least(50),
            ),
            Figure(f"processor time of all, {rounds} rounds", "", whole.cpu, at_most(60, "s")),
            Figure("memory", "", whole.gigabytes, at_most(2, "GB")),
        ],
        {
            "images": images,
            "median": medians(costs),
            "repeats": repeated,
            "rounds": {"here": OURS, "loop": THEIRS},
            "wall_seconds": whole.wall,
        },
        ("numpy", "pandas", "scikit-learn", "scipy"),
    )


def predictions(images: int) -> pd.DataFrame:
    """Return made-up test predictions of balanced classes, three images a group."""
    generator = np.random.default_rng(0)
    label = np.arange(images) % 2
    logit = 2 * (label - 0.5) + generator.normal(size=images)
    method = pd.Series(generator.integers(METHODS, size=images) * 2 + label).map("m{:02d}".format)
    return pd.DataFrame(
        {
            "image_id": pd.Series(range(images)).map("image/{:07d}".format),
            "label": label,
            "method": method,
            "family": np.where(label == FAKE, "gan", "real"),
            "group": np.arange(images) // 3,
            "logit": logit,
            "score": 1 / (1 + np.exp(-logit)),
        }
    )


def ours(test: pd.DataFrame, rounds: int) -> None:
    """Draw `rounds` of MCC, AUROC and AP."""
    y_true, y_score = test["label"].to_numpy(), test["score"].to_numpy()
    cells = outcomes(y_true, (y_score >= THRESHOLD).astype(np.int64))
    ranking = Ranking(y_true, y_score)

    def statistic(weights: FloatArray) -> dict[str, float]:
        curve = ranking.curve(weights)
        counts = confusion(cells, weights)
        return {"mcc": mcc(counts), "auroc": auroc(curve), "ap": average_precision(curve)}

    bootstrap(statistic, test["group"].to_numpy(), rounds, seed=0)


def scikit_learn(test: pd.DataFrame, rounds: int) -> None:
    """Draw the same three figures on resampled rows."""
    generator = np.random.default_rng(0)
    rows_of = list(test.groupby("group").indices.values())
    y_true, y_score = test["label"].to_numpy(), test["score"].to_numpy()
    for _ in range(rounds):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[group] for group in drawn])
        matthews_corrcoef(y_true[rows], y_score[rows] >= THRESHOLD)
        roc_auc_score(y_true[rows], y_score[rows])
        average_precision_score(y_true[rows], y_score[rows])


def judge_all(images: int, rounds: int) -> None:
    """Judge as the stage does."""
    compute_results(predictions(images), THRESHOLD, EvaluateParams(rounds, 0.95, 15, 20, 12, 0))
