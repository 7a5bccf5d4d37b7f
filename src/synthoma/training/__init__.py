"""The one training loop, clocked in images, and what it needs: state, checkpoints, precision, validation."""

from synthoma.training.loop import Interrupted, train
from synthoma.training.start import prepare_run

__all__ = ["Interrupted", "prepare_run", "train"]
