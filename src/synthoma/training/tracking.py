"""TensorBoard events beside stats.jsonl, for those who watch runs there (extra `track`)."""

from pathlib import Path
from typing import Any

from synthoma.errors import MissingExtraError

SCALARS = (
    "loss_discriminator",
    "loss_generator",
    "d_real",
    "d_fake",
    "penalty",
    "strength",
    "images_per_second",
    "kid",
)


class Events:
    """Event files of one run; the step is `images_seen`. What came after the checkpoint that is resumed from is purged."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                "training.tensorboard needs the extra 'track': pip install 'synthoma[track]', or leave it false."
            ) from error
        self.writer = SummaryWriter(str(folder), purge_step=images_seen + 1)

    def write(self, row: dict[str, Any]) -> None:
        """The numbers of a row of stats.jsonl."""
        for name in SCALARS:
            if name in row:
                self.writer.add_scalar(f"{row['kind']}/{name}", row[name], row["images_seen"])
        self.writer.flush()
