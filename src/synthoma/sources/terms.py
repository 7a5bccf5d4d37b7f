"""`synthoma-data.yaml`: what the owner of the data says about licence, citation and release."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from synthoma.errors import DataError, nearest_name_hint
from synthoma.run import write_atomically

FILE_NAME = "synthoma-data.yaml"


class DataTerms(BaseModel):
    """Unknown is unknown (None), never a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    licence: str | None = None
    citation: str | None = None
    may_release: bool | None = None


def keep_terms(data: Path, folder: Path) -> None:
    """Copy what the owner says of the raw data to what was made of them: tiles, cubes."""
    terms = data_terms(data).model_dump(exclude_none=True)
    if terms:
        write_atomically(folder / FILE_NAME, yaml.safe_dump(terms, allow_unicode=True))


def data_terms(path: Path) -> DataTerms:
    """Terms from `synthoma-data.yaml` in the data's root (beside the file, where the data are one file)."""
    file = (path if path.is_dir() else path.parent) / FILE_NAME
    if not file.is_file():
        return DataTerms()
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not valid YAML in UTF-8.") from error
    known = list(DataTerms.model_fields)
    if not isinstance(values, dict):
        raise DataError(f"{file}: expected the keys {', '.join(known)}.")
    for key in values:
        if key not in known:
            hint = nearest_name_hint(str(key), known) or "."
            raise DataError(f"{file}: unknown key '{key}'{hint} Known: {', '.join(known)}.")
    try:
        return DataTerms.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{file}: '{problem['loc'][0]}': {problem['msg']}.") from error
