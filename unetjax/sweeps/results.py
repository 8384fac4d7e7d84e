"""Results of a sweep: outcomes of trials, tables, the report, the best model."""

import json
import math
import pathlib
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

from unetjax import settings
from unetjax.evaluation.score_sets import CELLS
from unetjax.files import folders, json_files
from unetjax.model_io import model_folder
from unetjax.reporting import charts, console, environment, records, report
from unetjax.reporting.charts import Chart
from unetjax.reporting.report import Table
from unetjax.sweeps import trials
from unetjax.training import config as configs
from unetjax.training import run_folder
from unetjax.training.config import ExperimentConfig

State = Literal["finished", "pruned", "diverged", "unfinished"]

OUTCOME, SWEEP = "outcome.json", "sweep.json"
_REPEATS = ("seed", "data.fold")  # varied to repeat an experiment, not to change it
_MOST_CURVES = 6  # as many as charts have colours


class Outcome(NamedTuple):
    """The outcome of a trial.

    Attributes:
      name: Name of the trial and of its folder.
      config: Its resolved options.
      state: `finished`; `pruned`, stopped because others score better; `diverged`, a
        loss or parameter was not finite; or `unfinished`.
      step: Step of its best model; 0 without one.
      scores: Scores of its best model on the validation images; empty without one.
      note: Why it ended early, if it did.
      test_scores: Scores of its best model on the test images; None without any, and
        before it is finished.
    """

    name: str
    config: dict[str, Any]
    state: State
    step: int
    scores: dict[str, float | None]
    note: str = ""
    test_scores: dict[str, float | None] | None = None


def open_folder(folder: pathlib.Path, base: ExperimentConfig) -> None:
    """Makes the folder of a sweep, or checks that it belongs to this sweep.

    Raises:
      FileExistsError: If it holds files that are not of a sweep.
      ValueError: If its trials vary another base configuration.
    """
    path = folder / SWEEP
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a new or empty folder.")
    if not path.exists() and not folders.is_unused(folder):
        raise FileExistsError(
            f"{folder} holds files and no sweep of unetjax; nothing of it was "
            "touched. Name a new or empty folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.agree_on_config(path, base, holder="a sweep")


def write_outcome(folder: pathlib.Path, outcome: Outcome) -> None:
    """Writes the outcome of a trial into its folder, which marks it as ended."""
    _write(folder / OUTCOME, json.dumps(outcome._asdict(), indent=2) + "\n")


def read_outcome(folder: pathlib.Path) -> Outcome:
    """Returns the outcome of the trial in a run folder.

    Where the file of the outcome is damaged, a warning is issued, and the trial counts
    as unfinished: resuming it writes the file again.

    Raises:
      ValueError: If the config of the trial is damaged.
    """
    path, config_path = folder / OUTCOME, folder / run_folder.CONFIG
    config = configs.from_saved(json_files.read(config_path), where=str(config_path))
    options = configs.to_dict(config)
    if path.exists():
        try:
            outcome = Outcome(**json_files.read(path) | {"config": options})
        except (ValueError, TypeError):
            outcome = None
        if outcome is not None and _is_whole(outcome, folder.name):
            return outcome
        warnings.warn(f"{path} is damaged; the trial is not finished.", stacklevel=2)
    return best_of(folder, options, "unfinished")


def _is_whole(outcome: Outcome, name: str) -> bool:
    """Returns whether all fields of an outcome are of their types."""

    def are_scores(values: object) -> bool:
        return isinstance(values, dict) and all(
            value is None or isinstance(value, int | float) for value in values.values()
        )

    return (
        outcome.name == name
        and outcome.state in get_args(State)
        and isinstance(outcome.step, int)
        and isinstance(outcome.note, str)
        and are_scores(outcome.scores)
        and (outcome.test_scores is None or are_scores(outcome.test_scores))
    )


def best_of(
    folder: pathlib.Path, config: dict[str, Any], state: State, note: str = ""
) -> Outcome:
    """Returns an outcome with the scores of the best model so far."""
    path = folder / "model" / model_folder.MODEL
    if not path.exists():
        return Outcome(folder.name, config, state, 0, {}, note)
    origin = model_folder.read_provenance(path)
    step, scores = origin.step or 0, dict(origin.scores)
    test_scores = dict(origin.test_scores) or None
    return Outcome(folder.name, config, state, step, scores, note, test_scores)


def read_outcomes(folder: pathlib.Path) -> list[Outcome]:
    """Returns the outcomes of all trials in the folder of a sweep, best first."""
    outcomes = [read_outcome(path.parent) for path in folder.glob("*/config.json")]
    return sorted(outcomes, key=lambda outcome: (-score_of(outcome), outcome.name))


def score_of(outcome: Outcome) -> float:
    """Returns the score by which trials are ranked, -1 without one."""
    score = outcome.scores.get(outcome.config["best_metric"])
    return -1.0 if score is None else score


def varied_options(outcomes: Sequence[Outcome]) -> list[str]:
    """Returns the dotted names of the options in which trials differ."""
    flat = [dict(settings.flatten(outcome.config)) for outcome in outcomes]
    names = dict.fromkeys(name for options in flat for name in options)
    return [
        name
        for name in names
        if len({json.dumps(options.get(name)) for options in flat}) > 1
    ]


def trial_table(
    outcomes: Sequence[Outcome], shown: Mapping[str, str] | None = None
) -> Table:
    """Returns one row for each trial: its varied options, state and best scores.

    Args:
      outcomes: The trials.
      shown: Titles of the columns of scores, by the scores' names; by default those of
        cells, `best_metric` first.
    """
    options, shown = varied_options(outcomes), shown or _shown(outcomes)
    columns = [*options, "state", "best step", *shown.values()]
    rows = [
        {
            **_values(o, options),
            "state": o.state,
            "best step": o.step,
            **{title: _number(scores.get(key)) for key, title in shown.items()},
        }
        for o, scores in zip(outcomes, _reported(outcomes), strict=True)
    ]
    caption = (
        "Trials, best first: scores of the best model of each on its validation "
        "images, which chose it."
    )
    if _have_test_images(outcomes):
        title = f"{next(iter(_shown(outcomes).values()))}, validation"
        columns.append(title)
        for row, o in zip(rows, outcomes, strict=True):
            row[title] = _number(o.scores.get(o.config["best_metric"]))
        caption = (
            "Trials, best first by their validation score in the last column; the "
            "other scores are those of the test images."
        )
    return Table(columns, rows, caption)


def mean_table(
    outcomes: Sequence[Outcome], shown: Mapping[str, str] | None = None
) -> Table | None:
    """Returns mean and spread over trials that differ only in seed or fold, if any do.

    The spread is the standard deviation of a single trial (n - 1).

    Args:
      outcomes: The trials.
      shown: As in `trial_table`.
    """
    varied = varied_options(outcomes)
    repeated = [name for name in varied if name in _REPEATS]
    options = [name for name in varied if name not in _REPEATS]
    groups: dict[tuple[int | str, ...], list[Outcome]] = {}
    for o in outcomes:
        if o.state == "finished":
            groups.setdefault(tuple(_values(o, options).values()), []).append(o)
    if not repeated or not groups:
        return None
    shown = shown or _shown(outcomes)
    columns = [*options, "trials"]
    columns += [c for title in shown.values() for c in (title, f"± {title}")]
    rows = []
    for values, group in groups.items():
        row = dict[str, int | float | str](zip(options, values, strict=True))
        row["trials"] = len(group)
        for key, title in shown.items():
            scores = [x for s in _reported(group) if (x := s.get(key)) is not None]
            if scores:
                row[title] = statistics.fmean(scores)
            if len(scores) > 1:
                row[f"± {title}"] = statistics.stdev(scores)
        rows.append(row)
    first = next(iter(shown.values()))
    rows.sort(key=lambda row: -float(row.get(first, -1.0)))
    names = " and ".join(sorted(name.removeprefix("data.") for name in repeated))
    part = "test" if _have_test_images(outcomes) else "validation"
    caption = (
        f"Mean over {names} ± standard deviation of a single trial (n - 1), {part} "
        "images."
    )
    return Table(columns, rows, caption)


def with_spread(means: Table) -> Table:
    """Returns a table of means with each spread in the column of its mean."""
    columns = [name for name in means.columns if not name.startswith("±")]
    rows = [
        {
            name: f"{console.number(value)} ± {row[f'± {name}']:.2g}"
            if f"± {name}" in row
            else value
            for name, value in row.items()
            if name in columns
        }
        for row in means.rows
    ]
    return Table(columns, rows, means.caption)


def write(folder: pathlib.Path, base: ExperimentConfig, *, command: str) -> Table:
    """Writes `table.csv`, `means.csv`, `report.html` and `best/`; returns the table.

    Workers that call it at the same time wait for each other. What a killed one left
    half-written is removed.

    Args:
      folder: Folder of the sweep; its name is the title of the report.
      base: The configuration that trials vary.
      command: The command that runs the sweep.
    """
    with folders.claim(folder / ".claims" / "results", timeout=math.inf):
        folders.remove_temporaries(folder)
        outcomes = read_outcomes(folder)
        table, means = trial_table(outcomes), mean_table(outcomes)
        _write(folder / "table.csv", _full_csv(outcomes))
        if means is not None:
            _write(folder / "means.csv", records.csv_text(means.rows, means.columns))
        _keep_best(folder, outcomes)
        report.write_report(
            folder / "report.html",
            title=folder.name,
            summary=_summary(outcomes),
            tables=[table] if means is None else [with_spread(means), table],
            charts=_charts(folder, outcomes),
            configuration=configs.to_dict(base),
            environment=environment.environment(),
            command=command,
            replace=True,
        )
    return table


def _keep_best(folder: pathlib.Path, outcomes: Sequence[Outcome]) -> None:
    """Copies the best model to `best/`, unless it is there already."""
    best = next((o for o in outcomes if o.scores), None)
    if best is None:
        return
    path = folder / "best" / model_folder.MODEL
    if path.exists():
        kept = model_folder.read_provenance(path)
        if (kept.trial, kept.step) == (best.name, best.step):
            return
    trained = model_folder.load_model(folder / best.name)
    provenance = replace(trained.provenance, trial=best.name)
    model_folder.save_model(folder / "best", replace(trained, provenance=provenance))


def _summary(outcomes: Sequence[Outcome]) -> str:
    states = [outcome.state for outcome in outcomes]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    best = next((o for o in outcomes if o.scores), None)
    if best is None:
        return f"{len(outcomes)} trials: {counts}."
    metric = best.config["best_metric"]
    title = CELLS.shown.get(metric, metric)
    judgement = (
        f"On the test images, which chose nothing, its {title} is "
        f"{console.number(best.test_scores[metric] or math.nan)}."
        if best.test_scores
        else "There are no test images. The best of many validation scores is "
        "optimistic: evaluate the model on images that no trial has seen."
    )
    return (
        f"{len(outcomes)} trials: {counts}. The best {title} on validation images, "
        f"{console.number(score_of(best))}, is that of {best.name}; its model is in "
        f"the folder best.\n\n{judgement}"
    )


def _charts(folder: pathlib.Path, outcomes: Sequence[Outcome]) -> list[Chart]:
    """Returns the validation and loss curves of the best trials."""
    shown = [o for o in outcomes if o.scores][:_MOST_CURVES]
    if not shown:
        return []
    metric = shown[0].config["best_metric"]
    by_trial = [records.read(folder / o.name / "records.jsonl") for o in shown]

    def curves(kind: str, name: str) -> list[charts.Curve]:
        return [
            charts.curve(lines, kind, name)._replace(name=o.name)
            for lines, o in zip(by_trial, shown, strict=True)
        ]

    few = "" if len(shown) == len(outcomes) else f", the {len(shown)} best trials"
    title = CELLS.shown.get(metric, metric)
    return [
        Chart(f"{title}, validation images{few}", curves("validation", metric)),
        Chart(f"Loss{few}", curves("train", "loss"), log=True),
    ]


def _shown(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Returns the titles of the scores that tables show, `best_metric` first."""
    metric = outcomes[0].config["best_metric"] if outcomes else "mean_iou"
    return {metric: CELLS.shown.get(metric, metric), **CELLS.shown}


def _have_test_images(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.test_scores for outcome in outcomes)


def _reported(outcomes: Sequence[Outcome]) -> list[Mapping[str, float | None]]:
    """Returns the test scores of trials, or the validation scores if there are none."""
    use_test = _have_test_images(outcomes)
    return [(o.test_scores or {}) if use_test else o.scores for o in outcomes]


def _full_csv(outcomes: Sequence[Outcome]) -> str:
    """Returns one row for each trial: its name, varied options and every score."""
    options = varied_options(outcomes)
    rows = [
        {
            "trial": o.name,
            **_values(o, options),
            "state": o.state,
            "step": o.step,
            **o.scores,
            **{f"test_{name}": score for name, score in (o.test_scores or {}).items()},
            "note": o.note,
        }
        for o in outcomes
    ]
    columns = dict.fromkeys(name for row in rows for name in row if name != "note")
    return records.csv_text(rows, [*columns, "note"])


def _values(outcome: Outcome, options: Sequence[str]) -> dict[str, int | str]:
    """Returns the values of options as tables show them: integers, else as text."""
    values = {name: trials.value_of(outcome.config, name) for name in options}
    return {
        name: x if isinstance(x, int) and not isinstance(x, bool) else trials.as_text(x)
        for name, x in values.items()
    }


def _number(value: float | None) -> float | str:
    return "" if value is None else value


def _write(path: pathlib.Path, text: str) -> None:
    with folders.write_atomically(path, replace=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
