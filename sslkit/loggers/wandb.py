"""Weights & Biases: online with an API key, else offline below ``wandb/``, to be uploaded by ``wandb sync``.

Its own variables apply: ``WANDB_MODE``, ``WANDB_PROJECT`` (default: sslkit), ``WANDB_ENTITY``, ``WANDB_API_KEY``.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from sslkit.loggers.base import Experiment, LoggedPicture, Logger, numbers


class WandbLogger(Logger):
    """A run of W&B.

    Online, the server says at which step it stands, and what it has is not sent again. Offline, opening replaces the
    run's folder: one upload, at any time, has everything.
    """

    package: ClassVar[str] = "wandb"

    def begin(self, experiment: Experiment) -> dict[str, str]:
        """Start its service and the run; nothing is printed, and offline nothing is sent."""
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE")
        if not mode:
            mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
        if mode == "offline":
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known.setdefault("id", secrets.token_hex(4))
        self.known.setdefault("project", os.environ.get("WANDB_PROJECT", "sslkit"))
        self._run = wandb.init(
            id=self.known["id"],
            project=self.known["project"],
            name=experiment.name,
            config=dict(experiment.config),
            dir=self.folder.parent,  # it adds a folder "wandb"
            mode=mode,
            resume=None if mode == "offline" else "allow",
            settings=wandb.Settings(console="off", disable_git=True, disable_code=True, x_disable_stats=True),
        )
        self._wandb, self._first = wandb, self._run.starting_step
        return self.known

    @property
    def where(self) -> str:
        """Its address, or the command that uploads it."""
        return (
            f"wandb sync {quote(str(self.folder))}/offline-run-*" if self._run.offline else self._run.url or "disabled"
        )

    def row(self, row: Mapping[str, Any]) -> None:
        """The numbers of the row at its step."""
        if row["step"] >= self._first and (values := numbers(row)):
            self._run.log(values, step=row["step"])

    def picture(self, picture: LoggedPicture) -> None:
        """The PNG at its step."""
        if picture.step >= self._first:
            self._run.log({picture.name: self._wandb.Image(str(picture.path))}, step=picture.step)

    def results(self, results: Mapping[str, float], step: int) -> None:
        """They go to the run's summary, which has one value for each name."""
        self._run.summary.update(dict(results))

    def close(self, complete: bool) -> None:
        """Send what is left, and end its service; the server shows a run that is not complete as failed."""
        self._run.finish(exit_code=0 if complete else 1)
        self._wandb.teardown()
