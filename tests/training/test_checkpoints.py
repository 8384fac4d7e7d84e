import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
        for step, iou in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)):
            checkpoints.save(manager, make_state(step), {"iou": iou})
        checkpoints.finish(manager, 4)
    return folder


def open_(folder):
    return checkpoints.open_checkpoints(folder, best_metric="iou")


def assert_is(state, step):
    jax.tree.map(np.testing.assert_array_equal, state, make_state(step))


def test_the_latest_two_and_the_best_are_kept(saved):
    with open_(saved) as manager:
        assert sorted(manager.all_steps()) == [1, 3, 4]
        assert manager.best_step() == 1
        assert_is(checkpoints.restore_latest(manager, make_state(0)), 4)
        assert_is(checkpoints.restore(manager, 1, make_state(0)), 1)


def test_nothing_saved_is_none(tmp_path):
    with open_(tmp_path / "c") as manager:
        assert checkpoints.restore_latest(manager, make_state(0)) is None


def data_files(folder, step):
    return sorted(
        path
        for path in (folder / str(step) / "state").rglob("*")
        if path.is_file() and path.stat().st_size
    )


def test_a_flipped_bit_never_restores_other_values(saved, tmp_path):
    """In any file of a step: the right values, or the step before with a warning."""
    damaged = 0
    for index, path in enumerate(data_files(saved, 4)):
        copy = tmp_path / str(index) / "checkpoints"
        shutil.copytree(saved, copy)
        target = copy / path.relative_to(saved)
        content = bytearray(target.read_bytes())
        content[len(content) // 2] ^= 1
        target.write_bytes(content)
        with open_(copy) as manager:
            try:
                assert_is(checkpoints.restore(manager, 4, make_state(0)), 4)
            except checkpoints.CorruptCheckpointError as error:
                damaged += 1
                assert str(copy / "4") in str(error)  # noqa: PT017
                with pytest.warns(UserWarning, match="Trying the one before"):
                    state = checkpoints.restore_latest(manager, make_state(0))
                assert_is(state, 3)
    assert damaged > 0


def test_only_digests_detect_changed_array_bytes(saved, tmp_path):
    """Orbax itself restores them silently."""
    copy = tmp_path / "checkpoints"
    shutil.copytree(saved, copy)
    with open_(copy) as manager:
        state = checkpoints.restore(manager, 4, make_state(0))
    wrong = state._replace(params={"kernel": state.params["kernel"].at[0, 0].add(1)})
    assert checkpoints.digests(wrong) != checkpoints.digests(state)
    reshaped = state._replace(params={"kernel": state.params["kernel"].reshape(50, 40)})
    assert checkpoints.digests(reshaped) != checkpoints.digests(state)


def test_all_damaged_is_an_error(saved, tmp_path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(saved, copy)
    for step in (1, 3, 4):
        for path in data_files(copy, step):
            path.write_bytes(b"")
    with (
        open_(copy) as manager,
        pytest.warns(UserWarning, match="the one before"),
        pytest.raises(
            checkpoints.CorruptCheckpointError, match="no undamaged checkpoint"
        ),
    ):
        checkpoints.restore_latest(manager, make_state(0))


def test_another_architecture_is_refused(saved):
    like = make_state(0)._replace(params={"kernel": jnp.zeros((40, 51))})
    with open_(saved) as manager, pytest.raises(checkpoints.CorruptCheckpointError):
        checkpoints.restore(manager, 4, like)


def test_a_save_that_was_not_written_is_detected(saved):
    with (
        open_(saved) as manager,
        pytest.raises(OSError, match="step 5 was not written"),
    ):
        checkpoints.finish(manager, 5)
