"""Scores the best model of a run on the images that its config holds out.

python -m experiments.evaluate --config=ml_collections_configs/smoke.py --workdir=runs/a
"""

from absl import flags

from experiments.launch import launch
from unetjax.data import sources
from unetjax.exchange import model_folder
from unetjax.reporting import console
from unetjax.training import run_report
from unetjax.training.config import ExperimentConfig

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Run folder or model folder.", required=True
)


def main(config: ExperimentConfig) -> None:
    """Prints the scores beside those of the baseline."""
    split = sources.open_split(
        config.data, seed=config.seed, num_classes=config.model.num_classes
    )
    trained = model_folder.load(WORKDIR.value)
    table = run_report.scores_table(run_report.compare(trained, split), "")
    print(console.table(table.rows, table.columns))


if __name__ == "__main__":
    launch(main)
