"""What people read for the short names of metrics, and which metrics stand for a detector."""

HEADLINES = ("mcc", "ap", "auroc", "balanced_accuracy")
TITLES = {
    "mcc": "MCC",
    "ap": "average precision",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "recall": "recall",
    "specificity": "specificity",
    "brier_error": "Brier score (lower is better)",
    "calibration_error": "calibration error beyond chance's, root mean square (lower is better)",
}
