"""TensorBoard: events below ``tensorboard/``, rebuilt each time from what the run directory holds."""

import json
import shutil
import time
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from sslkit.loggers.base import Experiment, LoggedPicture, Logger, numbers


class TensorBoardLogger(Logger):
    """One event for each row; no step appears twice, because opening replaces what was in the folder."""

    package: ClassVar[str] = "tensorboard"

    def begin(self, experiment: Experiment) -> dict[str, str]:
        """Empty the folder, and write the recipe as text."""
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        shutil.rmtree(self.folder, ignore_errors=True)
        self._writer = EventFileWriter(str(self.folder))
        code = "\n".join(f"    {line}" for line in json.dumps(experiment.config, indent=2).split("\n"))  # in Markdown
        text = TensorProto(dtype="DT_STRING", string_val=[code.encode()])
        about = create_summary_metadata(display_name="recipe", description="")
        self._write(Summary(value=[Summary.Value(tag="recipe", metadata=about, tensor=text)]), 0)
        return {}

    @property
    def where(self) -> str:
        """The command that opens it in a browser."""
        return f"tensorboard --logdir {quote(str(self.folder))}"

    def row(self, row: Mapping[str, Any]) -> None:
        """One event with all numbers of the row."""
        self._scalars(numbers(row), row["step"])

    def picture(self, picture: LoggedPicture) -> None:
        """The PNG as it is."""
        from PIL import Image

        with Image.open(picture.path) as opened:
            width, height = opened.size
        image = self._summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=picture.path.read_bytes()
        )
        self._write(self._summary(value=[self._summary.Value(tag=picture.name, image=image)]), picture.step)
        self.flush()

    def results(self, results: Mapping[str, float], step: int) -> None:
        """Scalars of a single point."""
        self._scalars(results, step)

    def flush(self) -> None:
        """Write what is still buffered, so that a browser shows it."""
        self._writer.flush()

    def close(self, complete: bool) -> None:
        """Write what is still buffered, and close the file."""
        self._writer.close()

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        if values:
            found = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            self._write(self._summary(value=found), step)

    def _write(self, summary: Any, step: int) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
