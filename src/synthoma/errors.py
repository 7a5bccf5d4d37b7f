"""Everything that can go wrong and that a user can act on.

The command line prints a `SynthomaError` as one paragraph without a traceback and ends with exit code 1.
A message names the file or the key, says what is wrong, and says what to do about it.
"""

import difflib
from collections.abc import Iterable


class SynthomaError(Exception):
    """Base of all errors that are told to the user instead of being traced."""


class RecipeError(SynthomaError):
    """A recipe is unknown, does not validate, or asks for things that do not go together."""


class DataError(SynthomaError):
    """Input files cannot be read, or do not make a data set that one can train on."""


class SlideError(DataError):
    """A whole slide cannot be opened or read, or does not say how large its pixels are."""


class AnnotationError(DataError):
    """An annotation file is none, is damaged, or does not go with the classes that a recipe names."""


class VolumeError(DataError):
    """A CT series or volume file cannot be read, or its geometry is not what a volume needs."""


class MarksError(DataError):
    """A file of radiologists' marks is none, is damaged, or does not go with the slices that it is asked for."""


class DatasetError(SynthomaError):
    """A prepared dataset folder is damaged, was tampered with, or does not fit the recipe."""


class CheckpointError(SynthomaError):
    """No whole checkpoint can be loaded, or one could not be written."""


class TrainingError(SynthomaError):
    """Training cannot go on: a loss that is not a number, a run in use by another process."""


class ModelError(SynthomaError):
    """A released model is damaged, or is asked for something that it cannot make."""


class EvaluationError(SynthomaError):
    """Two sets cannot be compared: sizes, channels or protocols differ."""


class MissingExtraError(SynthomaError):
    """An optional dependency is needed and not installed; the message names the extra."""


class Interrupted(Exception):
    """The user asked to stop; a checkpoint was saved. The message says how to go on. Not an error of anybody's."""


def nearest_name_hint(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""
