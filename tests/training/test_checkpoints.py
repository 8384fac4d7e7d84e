import gc
import pathlib
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.files import folders
from unetjax.training import checkpoints
from unetjax.training.steps import TrainState

# Orbax does not await coroutines that failed to read a damaged file.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def collect_coroutines():
    """Collects them here, where their warnings are ignored, not in a later test."""
    yield
    gc.collect()


def make_state(step):
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"kernel": jnp.arange(2000.0).reshape(40, 50) + step},
        model_state={},
        opt_state=(jnp.full(30, float(step)),),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Four steps, of which the first is the best."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with open_(folder) as manager:
        for step in (1, 2, 3, 4):
            checkpoints.save(manager, make_state(step), origin(step), best_step=1)
        checkpoints.finish(manager, 4)
    return folder


def origin(step):
    return checkpoints.Origin("a config", "images", "a record\n" * step)


def open_(folder):
    return checkpoints.open_checkpoints(folder)


def restore_latest(manager):
    damaged = pathlib.Path(manager.directory).parent / "damaged"
    return checkpoints.restore_latest(manager, make_state(0), damaged=damaged)


def assert_is(saved, step):
    jax.tree.map(np.testing.assert_array_equal, saved.state, make_state(step))
    assert saved.origin == origin(step)


def test_the_latest_two_and_the_best_are_kept(saved):
    with open_(saved) as manager:
        assert sorted(manager.all_steps()) == [1, 3, 4]
        assert_is(restore_latest(manager), 4)
        assert_is(checkpoints.restore(manager, 1, make_state(0)), 1)


def test_nothing_saved_is_none(tmp_path):
    with open_(tmp_path / "c") as manager:
        assert restore_latest(manager) is None


def flip(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "a flipped bit": flip,
    "a flipped first bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "cut": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "deleted": None,
}


def damage(path, how):
    """Damages a file in one of the ways."""
    if DAMAGES[how] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[how](path.read_bytes()))


def files_of(folder, step):
    """All files of a checkpoint that are not empty."""
    return sorted(
        path.relative_to(folder)
        for path in (folder / str(step)).rglob("*")
        if path.is_file() and path.stat().st_size
    )


@pytest.mark.parametrize(
    "how",
    [
        "a flipped bit",
        *(
            pytest.param(how, marks=pytest.mark.slow)
            for how in ("cut", "a flipped first bit", "emptied", "deleted")
        ),
    ],
)
def test_no_damage_of_a_file_restores_other_values_or_stops_a_run(saved, tmp_path, how):
    """The right values, or those of the step before; and each step can be saved."""
    damaged = 0
    for index, path in enumerate(files_of(saved, 4)):
        copy = tmp_path / str(index) / "checkpoints"
        shutil.copytree(saved, copy)
        damage(copy / path, how)
        with open_(copy) as manager, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            latest = restore_latest(manager)
            step = int(latest.state.step)
            assert_is(latest, step)
            messages = [str(each.message) for each in caught]
            if step == 3:
                damaged += 1
                (text,) = (each for each in messages if "is damaged" in each)
                assert f"checkpoint {copy / '4'} is damaged: " in text
                assert text.endswith("damaged, and the run resumes from step 3.")
                checkpoints.save(manager, make_state(4), origin(4), best_step=1)
                checkpoints.finish(manager, 4)
                assert_is(restore_latest(manager), 4)
            else:
                assert step == 4, path
    assert damaged > 3


def test_only_digests_detect_changed_array_bytes(saved, tmp_path):
    """Orbax itself restores them silently."""
    copy = tmp_path / "checkpoints"
    shutil.copytree(saved, copy)
    with open_(copy) as manager:
        state = checkpoints.restore(manager, 4, make_state(0)).state
    wrong = state._replace(params={"kernel": state.params["kernel"].at[0, 0].add(1)})
    assert checkpoints.digests(wrong) != checkpoints.digests(state)
    reshaped = state._replace(params={"kernel": state.params["kernel"].reshape(50, 40)})
    assert checkpoints.digests(reshaped) != checkpoints.digests(state)


def test_all_damaged_is_an_error(saved, tmp_path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(saved, copy)
    for step in (1, 3, 4):
        for path in files_of(copy, step):
            (copy / path).write_bytes(b"")
    with (
        open_(copy) as manager,
        pytest.raises(
            checkpoints.CorruptCheckpointError,
            match=r"no undamaged checkpoint \(checkpoint .*4 is damaged: .*3 is dam",
        ),
    ):
        restore_latest(manager)
    assert sorted(path.name for path in copy.iterdir()) == ["1", "3", "4"]


def test_another_architecture_is_refused(saved):
    like = make_state(0)._replace(params={"kernel": jnp.zeros((40, 51))})
    with open_(saved) as manager, pytest.raises(checkpoints.CorruptCheckpointError):
        checkpoints.restore(manager, 4, like)


def test_a_save_that_would_fill_the_disk_is_not_begun(saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "c")
    usage = shutil.disk_usage(tmp_path)._replace(free=8000)  # 8,124 are needed
    with open_(folder) as manager:
        with monkeypatch.context() as full:
            full.setattr(folders.shutil, "disk_usage", lambda _: usage)
            with pytest.raises(OSError, match=r"left and .* MB are needed; free some"):
                checkpoints.save(manager, make_state(5), origin(5), best_step=1)
        assert_is(restore_latest(manager), 4)
        checkpoints.save(manager, make_state(5), origin(5), best_step=1)
        checkpoints.finish(manager, 5)
        assert_is(restore_latest(manager), 5)


@pytest.mark.parametrize("waits", ["finish", "close", "save"])
def test_a_save_that_fails_in_the_background_ends_in_one_sentence(
    saved, tmp_path, waits
):
    """Files may not become as large as the arrays, by a limit of the system."""
    resource = pytest.importorskip("resource", reason="limits of POSIX")
    folder = shutil.copytree(saved, tmp_path / "c")

    def fill():
        with open_(folder) as manager:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
            checkpoints.save(manager, make_state(5), origin(5), best_step=1)
            if waits == "finish":
                checkpoints.finish(manager, 5)
            elif waits == "save":
                checkpoints.save(manager, make_state(6), origin(6), best_step=1)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=r"^a checkpoint could not be written to .*;"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with open_(folder) as manager:
        assert_is(restore_latest(manager), 4)


def test_a_save_that_was_not_written_is_detected(saved):
    with (
        open_(saved) as manager,
        pytest.raises(OSError, match="step 5 was not written"),
    ):
        checkpoints.finish(manager, 5)
