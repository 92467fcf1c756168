"""`make deps`: a stage's code comes from its imports, the rest of dvc.yaml stays."""

import pytest

from src.core.cli import InputError
from tools.deps import code_deps, rewritten

WRITTEN = """\
# A comment.
stages:
  split:
    cmd: >-
      python -m src.split
      a.csv b.csv
    deps:
      - a.csv  # what it reads
      - src/gone.py
    outs: [b.csv]  # and what it writes
  nothing:
    cmd: echo
    outs:
      - src/not_a_dep.py
"""


def test_code_is_written_and_the_rest_stays() -> None:
    head, _, tail = WRITTEN.partition("      - a.csv  # what it reads\n      - src/gone.py\n")
    new = rewritten(WRITTEN)
    assert new.startswith(head)
    assert new.endswith(tail)
    deps = new.removeprefix(head).removesuffix(tail).splitlines()
    assert deps[0] == "      - a.csv  # what it reads"
    assert deps[1:] == [f"      - {dep}" for dep in sorted(code_deps("src.split"))]
    assert "      - src/core" in deps
    assert rewritten(new) == new


def test_a_stage_with_a_detector_depends_on_the_chosen_one_alone() -> None:
    deps = code_deps("src.predict")
    assert {"src/models/shared", "src/models/${model.name}.py"} <= deps
    assert "src/models/npr.py" not in deps
    assert "src/models/${model.name}.py" not in code_deps("src.weights")


def test_a_stage_without_deps_is_named() -> None:
    with pytest.raises(InputError, match="stage 'a' has no deps"):
        rewritten("stages: {a: {cmd: python -m src.split}}")
