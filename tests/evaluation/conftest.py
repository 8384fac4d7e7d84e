import pytest

from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import model_folder
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet


@pytest.fixture(scope="module")
def small_model(tmp_path_factory, make_variables):
    """The model folder of an untrained network."""
    model = UNet(features=2, depth=1)
    folder = tmp_path_factory.mktemp("models") / "m"
    params = make_variables(model)["params"]
    trained = TrainedModel(model, params, input_scaling=InputScaling("percentile"))
    model_folder.save_model(folder, trained)
    return folder
