"""MLflow: a tracking server, or a database in the run folder."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from unetjax.files import folders
from unetjax.reporting.metric_writer import MetricWriter, missing, numbers
from unetjax.reporting.pictures import Picture
from unetjax.reporting.records import Record

_LONGEST = 500  # characters of a parameter that every MLflow server accepts


class MLflowWriter(MetricWriter):
    """Writes one MLflow run, also when several processes continue each other.

    MLFLOW_TRACKING_URI names the server and MLFLOW_EXPERIMENT_NAME the experiment; the
    defaults are a database in `workdir/mlflow` and "unetjax". MLflow keeps every number
    it receives, so steps that a killed process has already written are skipped: a
    resumed run repeats them bit for bit. MLflow has no histograms.

    Args:
      workdir: The run folder.
      step: Updates done so far.
      config: Shown as the parameters of the run.
    """

    def __init__(
        self, workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]
    ) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise missing("mlflow") from error
        folder = (workdir / "mlflow").absolute()
        folder.mkdir(exist_ok=True)
        server = os.environ.get("MLFLOW_TRACKING_URI")
        client = mlflow.MlflowClient(server or f"sqlite:///{folder}/mlflow.db")
        path = folder / "run_id"
        if not path.exists():
            experiment_name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "unetjax")
            experiment = client.get_experiment_by_name(experiment_name)
            experiment_id = (
                experiment.experiment_id
                if experiment
                else client.create_experiment(
                    experiment_name,
                    artifact_location=None
                    if server
                    else f"{folder.as_uri()}/artifacts",
                )
            )
            run = client.create_run(experiment_id, run_name=workdir.absolute().name)
            for key, value in config.items():
                client.log_param(run.info.run_id, key, str(value)[:_LONGEST])
            with folders.write_atomically(path) as temporary:
                temporary.write_text(run.info.run_id)
        self._client, self._id = client, path.read_text()
        client.update_run(self._id, status="RUNNING")
        self._last_steps = {
            key: max(point.step for point in client.get_metric_history(self._id, key))
            for key in client.get_run(self._id).data.metrics
        }

    def write_record(self, record: Record) -> None:
        """Writes the numbers as metrics."""
        for key, value in numbers(record).items():
            if record.step > self._last_steps.get(key, -1):
                self._client.log_metric(self._id, key, value, step=record.step)

    def write_picture(self, step: int, name: str, picture: Picture) -> None:
        """Writes the picture as an artifact."""
        self._client.log_image(self._id, picture, f"{name}/step_{step:08d}.png")

    def close(self, *, failed: bool) -> None:
        """Ends the run, as failed or finished."""
        status = "FAILED" if failed else "FINISHED"
        self._client.set_terminated(self._id, status)
