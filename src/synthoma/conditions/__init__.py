"""What a model is conditioned on: classes and attributes as numbers, and plausible values for what nobody specified."""

from synthoma.conditions.encoding import Conditions

__all__ = ["Conditions"]
