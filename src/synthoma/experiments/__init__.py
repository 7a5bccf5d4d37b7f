"""Many runs at once: what can be said of several that were measured in the same way."""

from synthoma.experiments.comparison import Comparison, compare_runs
from synthoma.experiments.comparison_page import write_comparison

__all__ = ["Comparison", "compare_runs", "write_comparison"]
