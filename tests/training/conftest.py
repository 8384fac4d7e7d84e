import pytest

from tests.training.runs import CONFIG, make_split
from unetjax.training import loop


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """The folder of a run that was trained in one go; tests must not change it."""
    workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
    loop.train_and_evaluate(CONFIG, make_split(), workdir)
    return workdir
