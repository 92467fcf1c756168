"""How fast the bootstrap is, and against a loop over scikit-learn: python -m bench.evaluate."""

import argparse
import resource
import time

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from src.judging.curves import FloatArray, Ranking, auroc
from src.judging.intervals import bootstrap
from src.judging.judgement import EvaluateParams, judge
from src.judging.mcc import mcc
from src.judging.metrics import average_precision, confusion, outcomes
from src.schema import FAKE

THRESHOLD = 0.5


def predictions(images: int, methods: int) -> pd.DataFrame:
    """Return made-up test predictions of balanced classes, three images a group."""
    generator = np.random.default_rng(0)
    label = np.arange(images) % 2
    logit = 2 * (label - 0.5) + generator.normal(size=images)
    method = pd.Series(generator.integers(methods, size=images) * 2 + label).map("m{:02d}".format)
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


def ours(test: pd.DataFrame, rounds: int) -> float:
    """Return the seconds that `rounds` of MCC, AUROC and AP take."""
    y_true, y_score = test["label"].to_numpy(), test["score"].to_numpy()
    cells = outcomes(y_true, (y_score >= THRESHOLD).astype(np.int64))
    ranking = Ranking(y_true, y_score)

    def statistic(weights: FloatArray) -> dict[str, float]:
        curve = ranking.curve(weights)
        counts = confusion(cells, weights)
        return {"mcc": mcc(counts), "auroc": auroc(curve), "ap": average_precision(curve)}

    start = time.perf_counter()
    bootstrap(statistic, test["group"].to_numpy(), rounds, seed=0)
    return time.perf_counter() - start


def scikit_learn(test: pd.DataFrame, rounds: int) -> float:
    """Return the seconds that the same three figures take on resampled rows."""
    generator = np.random.default_rng(0)
    start = time.perf_counter()
    rows_of = list(test.groupby("group").indices.values())
    y_true, y_score = test["label"].to_numpy(), test["score"].to_numpy()
    for _ in range(rounds):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[group] for group in drawn])
        matthews_corrcoef(y_true[rows], y_score[rows] >= THRESHOLD)
        roc_auc_score(y_true[rows], y_score[rows])
        average_precision_score(y_true[rows], y_score[rows])
    return time.perf_counter() - start


def main() -> None:
    """Print seconds per round of both, and what a whole judgement takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=1000)
    args = parser.parse_args()
    test = predictions(args.images, methods=16)
    fast, slow = ours(test, rounds=20) / 20, scikit_learn(test, rounds=3) / 3
    print(f"{args.images:,} images, MCC + AUROC + AP, seconds per round:")
    print(f"  scikit-learn on resampled rows {slow:.3f}, here {fast:.4f}, ratio {slow / fast:.0f}")
    start = time.perf_counter()
    judge(test, THRESHOLD, EvaluateParams(args.rounds, 0.95, 15, 20, 12, 0))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  whole judgement, {args.rounds:,} rounds: {seconds:.0f} s, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
