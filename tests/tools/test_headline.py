"""What `make repro` ends with."""

from tools.headline import headline


def test_each_figure_stands_with_its_interval_and_the_probes_beside_it() -> None:
    figures: dict[str, float] = {}
    for name in ("mcc", "ap", "auroc", "balanced_accuracy"):
        figures |= {name: 0.6543, f"{name}_low": 0.5, f"{name}_high": 0.75}
    evaluate = {"threshold": 0.41234, "test": figures}
    shortcuts = {"auroc": {"mean_colour": {"value": 0.6, "low": 0.55, "high": 0.65}}}
    lines = headline(evaluate, shortcuts).splitlines()
    assert lines[0] == "Test images, threshold 0.412 (frozen on validation):"
    assert lines[1].split() == ["MCC", "0.654", "0.500", "to", "0.750"]
    assert "  mean colour           0.600   0.550 to 0.650" in lines
