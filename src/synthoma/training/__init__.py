"""The one training loop, clocked in images, and what it needs: state, checkpoints, precision, validation."""

from synthoma.errors import Interrupted
from synthoma.training.loop import train
from synthoma.training.start import prepare_run

__all__ = ["Interrupted", "prepare_run", "train"]
