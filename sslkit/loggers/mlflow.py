"""MLflow: a SQLite store below ``mlflow/``, or the one that ``MLFLOW_TRACKING_URI`` names.

``MLFLOW_EXPERIMENT_NAME`` (default: sslkit) names the experiment that the run belongs to.
"""

import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Mapping
from shlex import quote
from typing import Any, ClassVar

from sslkit.loggers.base import Experiment, LoggedPicture, Logger, flat, numbers

AT_ONCE, PARAMS_AT_ONCE, LONGEST = 1000, 100, 500  # metrics and params of a batch; characters of a param
LONGEST_NAME, ODD = 250, re.compile(r"[^\w\-. :]")
IN_EVERY_ROW = "epoch"  # a metric, by which the store tells the rows that it has


class MlflowLogger(Logger):
    """A run of MLflow: of what it is shown, only what the store lacks is sent."""

    package: ClassVar[str] = "mlflow"

    def begin(self, experiment: Experiment) -> dict[str, str]:
        """Create the run, or find the known one and ask the store which rows it has."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 seconds; by default training waits 4 minutes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own dependencies
            from mlflow import MlflowClient
            from mlflow.entities import Metric

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.WARNING)
            store = self._store()
            self._client, self._metric = MlflowClient(store), Metric
            # Each store has a run of its own. Its address may hold a password, so that a digest stands for it.
            key = "run" if store == self._own() else f"run@{hashlib.sha256(store.encode()).hexdigest()[:8]}"
            self._run = self.known.get(key) or self._created(experiment)
        self._client.update_run(self._run, status="RUNNING")
        self._has = {found.step for found in self._client.get_metric_history(self._run, IN_EVERY_ROW)}
        self._pending: list[Any] = []
        return self.known | {key: self._run}

    @property
    def where(self) -> str:
        """The command that opens the store in a browser; it requires all of MLflow."""
        own = self._store() == self._own()  # the address of another may hold a password
        return f"mlflow ui --backend-store-uri {quote(self._own())}" if own else "in the store of MLFLOW_TRACKING_URI"

    def row(self, row: Mapping[str, Any]) -> None:
        """The numbers of the row at its step; sent by ``flush``, a row whole or not at all."""
        if row["step"] not in self._has:
            self._add(numbers(row), row["step"])

    def picture(self, picture: LoggedPicture) -> None:
        """An artifact in ``pictures/NAME``."""
        folder = f"pictures/{picture.name}"
        sent = {found.path for found in self._client.list_artifacts(self._run, folder)}
        if f"{folder}/{picture.path.name}" not in sent:
            self._client.log_artifact(self._run, str(picture.path), folder)

    def results(self, results: Mapping[str, float], step: int) -> None:
        """Metrics of a single point; one that has changed is added as another."""
        has = self._client.get_run(self._run).data.metrics
        self._add({name: value for name, value in results.items() if has.get(_allowed(name)) != value}, step)

    def flush(self) -> None:
        """Send what is pending."""
        if self._pending:
            self._client.log_batch(self._run, metrics=self._pending)
        self._pending = []

    def close(self, complete: bool) -> None:
        """Send what is pending, and say that the run is over."""
        self.flush()
        self._client.set_terminated(self._run, "FINISHED" if complete else "KILLED")

    def _store(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or self._own()

    def _own(self) -> str:
        return f"sqlite:///{self.folder.resolve()}/mlflow.db"

    def _created(self, experiment: Experiment) -> str:
        """The id of a new run, with the recipe as its params."""
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "sslkit")
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._client.get_experiment_by_name(name)
        artifacts = (self.folder.resolve() / "artifacts").as_uri() if self._store() == self._own() else None
        group = found.experiment_id if found else self._client.create_experiment(name, artifacts)
        run = self._client.create_run(group, run_name=experiment.name).info.run_id
        params = [Param(_allowed(key), str(value)[:LONGEST]) for key, value in flat(experiment.config).items()]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(run, params=params[start : start + PARAMS_AT_ONCE])
        return run

    def _add(self, values: Mapping[str, float], step: int) -> None:
        if len(self._pending) + len(values) > AT_ONCE:
            self.flush()
        now = int(1000 * time.time())
        self._pending += [self._metric(_allowed(name), value, now, step) for name, value in values.items()]


def _allowed(name: str) -> str:
    """The name of a metric or param as MLflow takes it: names of classes may hold anything.

    >>> _allowed("results/segment/iou/cat (big)..")
    'results/segment/iou/cat _big_'
    """
    return "/".join(ODD.sub("_", part).strip(". ") or "_" for part in name.split("/"))[:LONGEST_NAME]
