"""Utility: does a classifier that is trained with synthetic images do better on real patients whom nobody trained on?"""

from synthoma.evaluation.utility.folds import Fold, assign_folds, iterate_folds, study_folds
from synthoma.evaluation.utility.forest import ForestRow, forest_rows
from synthoma.evaluation.utility.opening import Sides
from synthoma.evaluation.utility.run import study_run
from synthoma.evaluation.utility.settings import UtilitySettings
from synthoma.evaluation.utility.study import study_utility

__all__ = [
    "Fold",
    "ForestRow",
    "Sides",
    "UtilitySettings",
    "assign_folds",
    "forest_rows",
    "iterate_folds",
    "study_folds",
    "study_run",
    "study_utility",
]
