r"""Trains unetjax and its peers on the same images in the same minutes.

python -m experiments.compare --images=images --masks=masks --test-images=new \
    --test-masks=new_masks --minutes=5 --seeds=3 --out=runs/compare

unetjax is trained as `unetjax train` does by default; the peers are a plain PyTorch
U-Net and, for objects that are counted, StarDist. All have the same validation images,
which choose the best network, and are scored on the test images by the same code,
beside Otsu's threshold. --also adds images of another microscope. Other work on the
machine distorts the comparison: ours plans its steps by the speed at its start. The
folder receives `scores.csv`, and for each seed `pictures/` of the first images and our
run folder. Run the same command again to resume; finished seeds are not trained again.
The peers need PyTorch and TensorFlow: pip install -e '.[peers]'.
"""

import argparse
import concurrent.futures
import importlib.util
import multiprocessing
import pathlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from unetjax import signals
from unetjax.cli import main as command_line
from unetjax.cli.command import (
    ArgumentParser,
    count,
    parse_args,
    path,
    run_command,
)
from unetjax.data import folder as folders_of_images
from unetjax.data.examples import Example
from unetjax.data.splits import Split
from unetjax.devices import runtime
from unetjax.evaluation import comparison as comparisons
from unetjax.evaluation import panels, score_sets, scoring
from unetjax.evaluation.comparison import MODEL, Comparison
from unetjax.evaluation.score_sets import ScoreSet
from unetjax.files import folders, json_files
from unetjax.inference.segment import Segmentation, segment
from unetjax.model_io import model_folder
from unetjax.reporting import console, pictures, records
from unetjax.training import config as configs
from unetjax.training import experiment
from unetjax.training.config import ExperimentConfig

from .benchmarks import machine

OURS, SCALED = "unetjax", "unetjax, scale auto"
PEERS = {"plain_unet": "plain PyTorch U-Net", "stardist": "StarDist"}
_PACKAGES = {"plain_unet": ("torch",), "stardist": ("tensorflow", "stardist")}
Item = TypeVar("Item", Example, Segmentation)

_PICTURES = 6  # test images that are drawn

# By set of images, method and name.
Scores = dict[str, dict[str, dict[str, float | None]]]
Sets = dict[str, list[Example]]
Predictions = dict[str, list[Segmentation]]  # by set of images


def make_parser() -> ArgumentParser:
    """Returns the parser of the command line."""
    parser = ArgumentParser(
        prog=f"python -m {__package__}.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, what in (
        ("--images", "images to train on, of which a fifth is for validation"),
        ("--masks", "their masks"),
        ("--test-images", "images to score"),
        ("--test-masks", "their masks"),
    ):
        parser.add_argument(name, type=path, required=True, metavar="PATH", help=what)
    parser.add_argument(
        "--also",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "IMAGES", "MASKS"),
        help="further images to score, such as those of another microscope",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=5.0,
        help="time for training of each, without evaluations (default 5)",
    )
    parser.add_argument(
        "--seeds", type=count, default=1, help="number of repetitions (default 1)"
    )
    parser.add_argument(
        "--features",
        type=count,
        default=16,
        help="channels at full resolution of ours and the plain U-Net (default 16)",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=list(PEERS),
        default=list(PEERS),
        help="methods to train beside ours (default: all)",
    )
    parser.add_argument("--out", type=path, required=True, help="folder of the results")
    return parser


def run(options: argparse.Namespace) -> None:
    """Trains all, and prints and writes their scores."""
    sets = _read_sets(options)
    _agree_on_options(options)
    done = list[Scores]()
    for seed in range(options.seeds):
        folder = options.out / f"seed={seed}"
        file = folder / "scores.json"
        if not file.exists():
            scores = _run_seed(options, sets, folder, seed)
            json_files.write(file, scores)
        done.append(json_files.read(file))
    rows = mean_rows(done, _score_set(options.out / "seed=0"))
    with folders.write_atomically(options.out / "scores.csv", replace=True) as file:
        file.write_text(records.csv_text(rows, rows[0]), encoding="utf-8")
    print(console.table(rows, list(rows[0])))
    print(
        f"{options.seeds} seeds, {options.minutes:g} minutes; {options.out}/scores.csv"
    )


def _agree_on_options(options: argparse.Namespace) -> None:
    """Writes the options into the folder, or refuses others than those found there."""
    file = options.out / "options.json"
    given = {
        name: value if isinstance(value, (int, float, list)) else str(value)
        for name, value in vars(options).items()
        if name not in ("seeds", "out")
    }
    if not file.exists():
        if not folders.is_unused(options.out):
            raise FileExistsError(f"{options.out} holds other files; choose another.")
        options.out.mkdir(parents=True, exist_ok=True)
        json_files.write(file, given)
    elif json_files.digest(json_files.read(file)) != json_files.digest(given):
        raise ValueError(
            f"{options.out} was begun with other options, see {file}; use those, or "
            "another folder."
        )


def _read_sets(options: argparse.Namespace) -> Sets:
    """Returns the sets of images to score, by name."""
    sources = {"test": (options.test_images, options.test_masks)}
    for name, image_folder, mask_folder in options.also:
        if name in sources:
            raise ValueError(f"--also {name} is the name of another set; choose one.")
        sources[name] = (path(image_folder), path(mask_folder))
    return {name: folders_of_images.load(*pair) for name, pair in sources.items()}


def _run_seed(
    options: argparse.Namespace,
    sets: Sets,
    folder: pathlib.Path,
    seed: int,
) -> Scores:
    """Trains all with one seed, draws their predictions, and returns the scores."""
    for name in options.peers:  # before minutes are spent
        _check_installed(name)
    argv = ["train", options.images, options.masks, "--out", folder / OURS]
    argv += ["--test-images", options.test_images, "--test-masks", options.test_masks]
    argv += ["--minutes", options.minutes, "--seed", seed]
    argv += ["--features", options.features]
    if status := command_line.main([str(arg) for arg in argv]):
        if status >= 128:  # interrupted; it has said so
            raise SystemExit(status)
        raise ValueError(f"unetjax train failed with exit status {status}.")
    trained = model_folder.load_model(folder / OURS / "model")
    config = configs.from_dict(trained.provenance.config)
    split = experiment.open_split(config)
    score_set = _score_set(folder)

    time = {"minutes": options.minutes, "seed": seed}
    peers = dict[str, Predictions]()
    for name in options.peers:
        if name == "stardist" and score_set is score_sets.PIXELS:
            continue  # it needs objects
        title = PEERS[name]
        print(f"training {title} for {options.minutes:g} minutes ...", flush=True)
        if name == "stardist":
            peers[title], num_steps = _in_new_process(_stardist, split, sets, **time)
        else:
            peers[title], num_steps = _plain_unet(
                split, sets, config, score_set, features=options.features, **time
            )
        print(f"it took {num_steps} steps")
    scores: Scores = {}
    for name, examples in sets.items():
        comparison = comparisons.compare(
            trained, split._replace(test=examples), part="test"
        )
        predictions = {OURS: comparison.predictions.pop(MODEL)}
        if trained.object_diameter is not None and name != "test":
            predictions[SCALED] = [
                segment(trained, example.image, scale="auto") for example in examples
            ]
        predictions |= {peer: found[name] for peer, found in peers.items()}
        predictions |= comparison.predictions  # Otsu
        comparison = Comparison("test", examples, predictions)
        scores[name] = {
            method: scoring.without_nan(each)
            for method, each in comparison.scores(score_set).items()
        }
        shown = [_drawn(example, score_set) for example in examples[:_PICTURES]]
        first = {
            method: [_drawn(each, score_set) for each in found[:_PICTURES]]
            for method, found in predictions.items()
        }
        picture = panels.comparison(shown, first)
        (folder / "pictures").mkdir(exist_ok=True)
        drawn = folder / "pictures" / f"{name}.png"
        pictures.write_png(drawn, picture, replace=True)
    return scores


def _check_installed(name: str) -> None:
    """Refuses a peer of which a package is not installed."""
    for package in _PACKAGES[name]:
        if importlib.util.find_spec(package) is None:
            others = " ".join(peer for peer in PEERS if peer != name)
            raise ModuleNotFoundError(
                f"{PEERS[name]} needs {package}: pip install -e '.[peers]', or compare "
                f"without it by --peers {others}."
            )


def _plain_unet(
    split: Split,
    sets: Sets,
    config: ExperimentConfig,
    score_set: ScoreSet,
    *,
    minutes: float,
    features: int,
    seed: int,
) -> tuple[Predictions, int]:
    """Trains a plain U-Net; returns its predictions of all sets, and its steps."""
    from .peers import plain_unet

    def validate(predict: Callable[[Example], Segmentation]) -> float:
        predictions = [predict(example) for example in split.validation]
        return score_set.compute(split.validation, predictions)[score_set.ranking]

    predict, num_steps = plain_unet.train(
        split.train,
        validate,
        num_classes=config.model.num_classes,
        minutes=minutes,
        features=features,
        seed=seed,
        num_threads=machine.num_threads(),
        min_size=config.instances.min_size,
    )
    return _predict_all(predict, sets), num_steps


def _stardist(
    split: Split, sets: Sets, *, minutes: float, seed: int
) -> tuple[Predictions, int]:
    """Trains StarDist; returns its predictions of all sets, and its steps."""
    from .peers import stardist

    predict, num_steps = stardist.train(
        split.train,
        split.validation,
        minutes=minutes,
        seed=seed,
        num_threads=machine.num_threads(),
    )
    return _predict_all(predict, sets), num_steps


def _predict_all(predict: Callable[[Example], Segmentation], sets: Sets) -> Predictions:
    return {name: [predict(each) for each in sets[name]] for name in sets}


def _in_new_process(
    function: Callable[..., tuple[Predictions, int]], *args: object, **options: object
) -> tuple[Predictions, int]:
    """Calls a function in a process of its own: TensorFlow and PyTorch share none."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **options).result()


def _drawn(item: Item, score_set: ScoreSet) -> Item:
    """Returns what is drawn in colours: cells, or the foreground where none count."""
    if score_set is score_sets.PIXELS:
        return item._replace(instances=item.label)
    return item


def _score_set(folder: pathlib.Path) -> ScoreSet:
    """Returns the scores that suit what our run in a folder has learned."""
    options = model_folder.load_model(folder / OURS / "model").provenance.config
    config = configs.from_dict(options)
    return score_sets.suiting(config.best_metric, num_classes=config.model.num_classes)


def mean_rows(done: Sequence[Scores], score_set: ScoreSet) -> list[dict[str, str]]:
    """Returns a row for each set and method: mean and standard deviation over seeds."""
    rows = []
    for name, methods in done[0].items():
        for method in methods:
            row = {"images": name, "method": method}
            for score, title in score_set.shown.items():
                row[title] = _mean([each[name][method][score] for each in done])
            rows.append(row)
    return rows


def _mean(values: Sequence[float | None]) -> str:
    """Returns mean and standard deviation as text; "" if a value is undefined."""
    known = [x for x in values if x is not None]
    if len(known) < len(values):
        return ""
    spread = f" ± {statistics.stdev(known):.3f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.3f}{spread}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the launcher and returns its exit status."""

    def command() -> None:
        options = parse_args(make_parser(), sys.argv[1:] if argv is None else argv)
        runtime.prepare()
        run(options)

    return run_command(command)


if __name__ == "__main__":
    signals.exit_program(main())
