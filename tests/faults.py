"""Runs the tests of every fault and prints a table: row | tried | survived.

    python -m tests.faults [--short]

--short leaves out the tests marked slow; `make test` runs the others. A row whose note
says what is missing counts as not survived.
"""

import argparse
import sys
from typing import NamedTuple

import pytest


class Row(NamedTuple):
    """A fault, the tests of what happens then, and what is not done."""

    title: str
    tests: tuple[str, ...] = ()
    missing: str = ""


T, D = "training/test_", "data/test_"
CLI, PREDICT = "cli/test_main.py::test_", "inference/test_predict.py::test_"
RESUME, HOSTILE = "training/test_resume.py::test_", "files/test_hostile.py::test_"
STUDY = "studies/test_studies.py::test_"
CHECKPOINTS, DAMAGE = f"{T}checkpoints.py::test_", f"{T}damage.py::test_"

ROWS = (
    Row(
        "killed while saving",
        (
            f"{RESUME}killed_while_saving",
            f"{RESUME}killed_at_random_file_actions",
            f"{STUDY}kills",
            f"{T}run_folder.py::test_what_a_killed_process_left_is_removed",
        ),
    ),
    Row("signals in any phase", ("test_signals.py", f"{RESUME}a_signal_stops_between")),
    Row(
        "bit rot in a checkpoint",
        (
            f"{CHECKPOINTS}no_damage_of_a_file",
            f"{CHECKPOINTS}only_digests_detect",
            f"{DAMAGE}damaged_files_of_some_kinds",
            f"{DAMAGE}every_damaged_file",
        ),
    ),
    Row(
        "files cut, emptied or missing",
        (
            f"{CHECKPOINTS}no_damage_of_a_file",
            f"{CHECKPOINTS}all_damaged_is_an_error",
            f"{DAMAGE}every_damaged_file",
            f"{DAMAGE}what_is_said",
        ),
    ),
    Row(
        "disk full",
        (
            "files/test_folders.py::test_a_failure_leaves_what_was_there",
            "files/test_archives.py::test_a_full_disk",
            f"{CHECKPOINTS}a_save_that_was_not_written",
            f"{CHECKPOINTS}a_save_that_would_fill",
            f"{CHECKPOINTS}a_save_that_fails",
            f"{STUDY}file_actions_that_fail",
        ),
    ),
    Row(
        "output cannot be written",
        ("cli/test_odd_machines.py::test_a_folder_that_cannot_be_made",),
    ),
    Row("two runs in one folder", ("files/test_folders.py",)),
    Row(
        "resuming is exact",
        (
            f"{RESUME}resumed_with_more_steps",
            f"{RESUME}an_exception_of_a_watcher",
            f"{D}device_dataset.py::test_a_batch_is_a_function",
        ),
    ),
    Row(
        "resuming with something else",
        (
            f"{T}run_folder.py::test_another_config",
            f"{T}run_folder.py::test_other_images",
            f"{D}identity.py",
            f"{CHECKPOINTS}another_architecture",
        ),
    ),
    Row(
        "resuming a finished run",
        (
            f"{T}run_folder.py::test_a_finished_run",
            f"{CHECKPOINTS}nothing_saved_is_none",
        ),
    ),
    Row(
        "loss or parameters not finite",
        (
            f"{T}loop.py::test_a_run_that_diverges",
            f"{T}loop.py::test_a_loss_that_is_not_finite",
        ),
    ),
    Row(
        "pixels not finite",
        (
            f"{D}checks.py::test_nan",
            f"{CLI}pixels_that_are_nan",
            f"{PREDICT}refusals",
        ),
    ),
    Row(
        "labels of another type",
        ("files/test_pages.py", "files/test_images.py", f"{D}mask_formats.py"),
    ),
    Row(
        "many or large labels",
        (
            "files/test_images.py::test_instances_keep_their_numbers",
            "files/test_images.py::test_instance_numbers_that_do_not_fit",
            "instances/test_components.py::test_more_cells_than_16_bits",
            "metrics/test_matching.py::test_more_cells_than_16_bits",
        ),
    ),
    Row(
        "image and label differ",
        (
            f"{D}folder.py::test_all_errors_of_a_folder",
            f"{D}checks.py::test_errors_name",
            "files/test_tiff.py::test_a_truncated_stack",
        ),
    ),
    Row(
        "labels are no instances",
        (
            f"{D}checks.py::test_cells_in_several_pieces",
            "weight_maps/test_device.py::test_numbering_of_the_cells",
            "weight_maps/test_device.py::test_flips_and_transposes",
        ),
    ),
    Row(
        "no cell, one cell, no image",
        (
            "test_losses.py::test_the_loss_without_annotation",
            "weight_maps/test_reference.py::test_fewer_than_two_cells",
            "metrics/test_tracking.py::test_no_reference_cell",
            f"{D}checks.py::test_no_images_at_all",
        ),
    ),
    Row("channels", (f"{PREDICT}refusals", f"{CLI}wrong_channel_count")),
    Row(
        "odd, small, huge sizes", (f"{PREDICT}tiled_equals_one", f"{PREDICT}one_pixel")
    ),
    Row(
        "seams of tiles",
        (
            "inference/test_tiles.py::test_every_pixel_is_filled_once",
            f"{PREDICT}stepping_by_the_output",
            f"{PREDICT}tiles_of_one_program",
        ),
    ),
    Row(
        "image larger than the memory",
        ("files/test_limits.py", "large/test_files.py", "large/test_segmentation.py"),
    ),
    Row(
        "too little memory",
        (
            f"{PREDICT}too_little_memory",
            f"{PREDICT}an_image_that_never_fits",
            f"{PREDICT}programs_that_are_not_kept",
            f"{STUDY}memory",
        ),
    ),
    Row("damaged image", (f"{CLI}unreadable_or_truncated_tiff",)),
    # No workers load data, which are in memory or read as they are needed.
    Row(
        "a worker or thread dies",
        (
            f"{CHECKPOINTS}a_save_that_fails",
            f"{STUDY}killed_workers",
            "sweeps/test_search.py::test_the_trial_of_a_killed_worker",
            "sweeps/test_workers.py::test_an_interrupted_trial",
            "sweeps/test_workers.py::test_a_damaged_outcome",
            "journeys/test_sweep.py::test_two_workers",
        ),
    ),
    Row(
        "killed while predicting",
        ("evaluation/test_prediction_files.py", f"{STUDY}kills"),
    ),
    Row(
        "concurrent Zarr writes",
        (
            "large/test_files.py::test_blocks_share_no_chunk",
            "large/test_segmentation.py::test_a_torn_chunk",
            "large/test_segmentation.py::test_a_flipped_bit",
        ),
    ),
    Row(
        "wrong numbers from the compiler",
        ("devices/test_runtime.py", "devices/test_self_check.py"),
    ),
    Row(
        "extreme logits and weights", ("test_losses.py::test_extreme_logits_stay_fin",)
    ),
    Row(
        "augmentation misaligned",
        ("augmentation/test_augment.py::test_image_and_annotations_move_alike",),
    ),
    Row(
        "an image in two parts",
        (
            f"{D}splits.py::test_images_in_two_parts",
            f"{D}splits.py::test_duplicates",
        ),
    ),
    Row("meaning of metrics", ("metrics/test_tracking.py", "metrics/test_matching.py")),
    Row(
        "download interrupted",
        (
            "files/test_archives.py::test_a_killed_process",
            f"{D}datasets.py::test_a_changed_archive",
        ),
    ),
    Row(
        "hostile files",
        (
            "files/test_hostile.py",
            f"{STUDY}mutated_files",
            "files/test_archives.py",
            "files/test_manifests.py",
            "model_io/test_model_folder.py",
            "test_architecture.py::test_nothing_is_executed",
        ),
    ),
    Row(
        "odd machines and names",
        ("cli/test_odd_machines.py", "files/test_images.py::test_names_of_any_kind"),
    ),
    Row(
        "Ctrl-C, closed output",
        (
            "test_signals.py::test_a_closed_pipe",
            "test_signals.py::test_a_command_ends",
            f"{CLI}closed_output",
        ),
    ),
    Row(
        "misspelt options",
        (f"{CLI}misspelt_words", "experiments/test_launch.py::test_errors_name"),
    ),
)


class Results:
    """A plugin of pytest that keeps the tests of rows, and counts their results."""

    def __init__(self) -> None:
        self.passed = dict[str, bool]()  # by the identifier of the test

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leaves out the tests of no row."""
        items[:] = [each for each in items if any(matches(each.nodeid, t) for t in ALL)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notes a test that was run: all of its phases must pass."""
        if not report.skipped:
            before = self.passed.get(report.nodeid, True)
            self.passed[report.nodeid] = before and report.passed


ALL = tuple(dict.fromkeys(test for row in ROWS for test in row.tests))


def matches(identifier: str, test: str) -> bool:
    """Returns whether a test is meant: by its file, or by the start of its name."""
    return identifier.removeprefix("tests/").startswith(test)


def main() -> int:
    """Runs the tests, prints the table, and returns 1 if a row was not survived."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    files = sorted({f"tests/{test.partition('::')[0]}" for test in ALL})
    marks = "not slow" if options.short else "slow or not slow"
    results = Results()
    pytest.main(["-q", "--no-header", "-m", marks, *files], plugins=[results])
    print("\n| row | fault | tried | survived | not done |\n|---|---|---|---|---|")
    survived = 0
    for number, row in enumerate(ROWS, start=1):
        outcomes = [
            passed
            for identifier, passed in results.passed.items()
            if any(matches(identifier, test) for test in row.tests)
        ]
        is_good = bool(outcomes) and all(outcomes) and not row.missing
        survived += is_good
        print(
            f"| {number} | {row.title} | {len(outcomes)} | {sum(outcomes)} | "
            f"{row.missing} |"
        )
    print(f"\n{survived} of {len(ROWS)} rows survived")
    return int(survived < len(ROWS))


if __name__ == "__main__":
    sys.exit(main())
