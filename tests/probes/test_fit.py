import numpy as np

from src.probes.fit import out_of_fold_scores


def test_scores_do_not_come_from_a_fit_that_saw_the_group() -> None:
    # Features that name the group, labels drawn by group: only a leak could score well.
    rng = np.random.default_rng(0)
    groups = np.arange(100).repeat(6)
    labels = rng.permutation(np.arange(100) % 2).repeat(6)
    features = rng.standard_normal((100, 4)).repeat(6, axis=0)
    scores = out_of_fold_scores(features, labels, groups.astype(str), 5, 0)
    right = ((scores > 0.5) == labels).mean()
    assert 0.3 < right < 0.7
