"""MLflow: a tracking server, or a database in the run folder."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Real

from unetjax.files import folders
from unetjax.reporting.metric_writer import Picture, Sink, missing, numbers
from unetjax.reporting.records import Record

_LONGEST = 500  # characters of a value that every MLflow server takes


def open_sink(workdir: pathlib.Path, *, step: int, config: Mapping[str, Any]) -> Sink:
    """Returns a sink that is one MLflow run, also over several processes.

    MLFLOW_TRACKING_URI names the server and MLFLOW_EXPERIMENT_NAME the experiment;
    without them it is a database in `workdir/mlflow` and "unetjax". MLflow keeps every
    number it is told, so steps that it has already, of a process that was killed, are
    not told again; a run repeats them bit for bit. Histograms it does not know.

    Args:
      workdir: The run folder.
      step: Updates done so far.
      config: Shown as the parameters of the run.
    """
    try:
        import mlflow
    except ImportError as error:
        raise missing("mlflow") from error

    folder = (workdir / "mlflow").absolute()
    folder.mkdir(exist_ok=True)
    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = mlflow.MlflowClient(server or f"sqlite:///{folder}/mlflow.db")
    name = folder / "run_id"
    known = name.exists()
    if not known:
        called = os.environ.get("MLFLOW_EXPERIMENT_NAME", "unetjax")
        experiment = client.get_experiment_by_name(called)
        files = None if server else f"{folder.as_uri()}/artifacts"
        number = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(called, artifact_location=files)
        )
        run = client.create_run(number, run_name=workdir.absolute().name)
        for key, value in config.items():
            client.log_param(run.info.run_id, key, str(value)[:_LONGEST])
        with folders.write_atomically(name) as temporary:
            temporary.write_text(run.info.run_id)
    run_id = name.read_text()
    client.update_run(run_id, status="RUNNING")
    last = {
        key: max(metric.step for metric in client.get_metric_history(run_id, key))
        for key in client.get_run(run_id).data.metrics
    }

    def record(record: Record) -> None:
        for key, value in numbers(record).items():
            if record.step > last.get(key, -1):
                client.log_metric(run_id, key, value, step=record.step)

    def picture(step: int, name: str, picture: Picture) -> None:
        client.log_image(run_id, picture, f"{name}/step_{step:08d}.png")

    def histogram(step: int, name: str, values: Real[np.ndarray, "..."]) -> None:
        """MLflow has no histograms."""

    def close(failed: bool) -> None:
        client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    return Sink(record, picture, histogram, close, seen=-1)
