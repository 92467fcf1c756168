from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from src.training.batch_preview import draw_batch

CROPS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["$x_{", "a$b$c", "_a_", "写真", "a\tb"])
def test_any_name_of_a_method_is_drawn(tmp_path: Path, name: str) -> None:
    draw_batch(CROPS, [f"fake\n{name}"] * 3, tmp_path / "batch.png")
    assert np.asarray(Image.open(tmp_path / "batch.png")).std() > 0


def test_nobodys_matplotlibrc_changes_it(tmp_path: Path) -> None:
    draw_batch(CROPS, ["real"] * 3, tmp_path / "one.png")
    with mpl.rc_context({"savefig.dpi": 50, "font.size": 20, "axes.titlelocation": "left"}):
        draw_batch(CROPS, ["real"] * 3, tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
