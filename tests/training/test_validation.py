import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import matthews_corrcoef

from src.models.shared.log_odds import fake_logit
from src.training.validation import validate

scores_of_one_class = st.lists(st.integers(-5, 5), min_size=1, max_size=15)


@given(real=scores_of_one_class, fake=scores_of_one_class)
def test_best_mcc_is_the_largest_over_all_thresholds(real: list[int], fake: list[int]) -> None:
    labels = np.repeat([0, 1], [len(real), len(fake)])
    scores = np.array(real + fake, dtype=float)
    tried = [matthews_corrcoef(labels, scores >= threshold) for threshold in np.unique(scores)]
    logits = torch.tensor(np.stack([np.zeros(len(scores)), scores], 1))
    assert validate(logits, labels)["val_mcc"] == pytest.approx(max(tried))


def test_figures_of_a_perfect_and_of_a_blind_detector() -> None:
    labels = np.array([0, 0, 1, 1])
    perfect = validate(torch.tensor([[9.0, 0], [8, 0], [0, 8], [0, 9]]), labels)
    assert perfect["val_mcc"] == perfect["val_auroc"] == 1
    assert perfect["val_loss"] < 0.001
    blind = validate(torch.zeros(4, 2), labels)
    assert blind == {"val_mcc": 0, "val_auroc": 0.5, "val_loss": pytest.approx(np.log(2))}


def test_fake_is_whatever_is_not_real() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    probability = logits.softmax(1)[0]
    assert expit(fake_logit(logits.numpy())[0]) == pytest.approx(1 - probability[0].item())
    two = torch.tensor([[0.25, 1.5]])
    assert fake_logit(two.numpy())[0] == pytest.approx(1.25)
