import pytest

from unetjax.data import synthetic
from unetjax.files import images
from unetjax.training import config as configs


@pytest.fixture(scope="package")
def base(tmp_path_factory):
    """An experiment that takes a second, on a folder of three small images."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for i in range(3):
        cells = synthetic.touching_cells(0, i, size=(40, 48), num_cells=4, radius=6.0)
        images.write_image(folder / "images" / f"{i}.tif", cells.image)
        images.write_labels(folder / "masks" / f"{i}.tif", cells.instances)
    return configs.from_dict(
        {
            "num_steps": 4,
            "batch_size": 2,
            "tile_size": 20,
            "input_scaling": {"method": "percentile"},
            "log_every": 1,
            "evaluate_every": 2,
            "model": {"features": 2, "depth": 1},
            "optimizer": {"name": "adam", "learning_rate": 0.01},
            "augmentation": {"elastic_sigma": 0.0},
            "weight_map": {"w0": 0.0},
            "data": {
                "images": str(folder / "images"),
                "masks": str(folder / "masks"),
                "validation": "2:",
            },
        }
    )
