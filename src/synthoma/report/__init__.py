"""What a person looks at: two self-contained pages and the model card, made from a run's files only."""

from synthoma.report.card import model_card
from synthoma.report.page import write_report

__all__ = ["model_card", "write_report"]
