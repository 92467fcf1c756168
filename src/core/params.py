"""params.yaml -> one frozen, typed, checked dataclass per section."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from src.core.cli import InputError

PARAMS_YAML = Path("params.yaml")
# For `@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)`: no conversions, no extra keys.
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
# What every section may hold, by `python -m tools.params_schema`. No stage depends on it in DVC's
# eyes, as none depends on another's parameters: it only says early what would fail later.
SCHEMA_JSON = Path(__file__).parents[2] / "params.schema.json"

# What parameters were called before -> what they are called now.
RENAMED = {
    "calibrate.far_quantile": "calibrate.ood_quantile",
    "predict.neighbours": "predict.knn_neighbours",
    "predict.reference_images": "predict.knn_images",
}

Params = TypeVar("Params")


def load_params(cls: type[Params], section: str, path: Path = PARAMS_YAML) -> Params:
    """Return section `section` of `path` as a checked `cls`.

    The other sections are checked too: a wrong value is found before the first stage of a run, not
    hours later by the stage that it is for.

    Raises:
        InputError: the file or the section is missing, or a key is unknown, missing, of the wrong
            type or out of range; the message names section, key, value and what is allowed.
    """
    sections = _read_yaml(path)
    if section not in sections:
        raise InputError(f"{path}: section {section!r} is missing; found {sorted(sections)}")
    try:
        # As JSON: a strict check of Python objects would refuse YAML's lists for tuples.
        params = TypeAdapter(cls).validate_json(json.dumps(sections[section], default=str))
    except ValidationError as error:
        raise InputError(_explain(error, section, path)) from error
    if path == PARAMS_YAML and (faults := list(_faults(sections))):
        raise InputError(f"{path}: " + "; ".join(faults))
    return params


def _faults(sections: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong in any of `sections`."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = json.loads(SCHEMA_JSON.read_text(encoding="utf-8"))
    # Infinity and NaN as texts: no bound would catch the latter.
    plain = json.loads(json.dumps(sections, default=str), parse_constant=str)
    for fault in Draft202012Validator(schema).iter_errors(plain):
        deepest = best_match([fault]) or fault
        names = ".".join(map(str, deepest.absolute_path))
        yield f"{names}: {deepest.message}"


def _read_yaml(path: Path) -> dict[str, object]:
    # The parser that DVC uses: PyYAML would read 1e-4 as a string where DVC reads a float.
    try:
        with path.open(encoding="utf-8") as file:
            sections = YAML(typ="safe", pure=True).load(file)
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(sections, dict):
        raise InputError(f"{path}: expected sections of parameters, found {sections!r}")
    return sections


def _explain(error: ValidationError, section: str, path: Path) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join(map(str, (section, *fault["loc"])))
        match fault["type"]:
            case "unexpected_keyword_argument" if key in RENAMED:
                lines.append(f"{key} is called {RENAMED[key]} now")
            case "unexpected_keyword_argument":
                lines.append(f"{key} is not a parameter")
            case "missing" | "missing_argument":
                lines.append(f"{key} is missing")
            case "value_error" if not fault["loc"]:  # of several parameters together
                lines.append(f"{section}: {fault['msg'].removeprefix('Value error, ')}")
            case _:
                lines.append(f"{key} = {fault['input']!r}: {fault['msg']}")
    return f"{path}: " + "; ".join(lines)
