"""Packages for bioimage.io compute from stored images what the model computes."""

import importlib.util
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unetjax.cli import main
from unetjax.inference.trained_model import Provenance, TrainedModel
from unetjax.model_io import bioimageio, model_folder, onnx
from unetjax.model_io.bioimageio import Publication
from unetjax.network import input_scaling
from unetjax.network.input_scaling import InputScaling
from unetjax.network.unet import UNet

ABOUT = Publication(("Ada Lovelace",), "CC-BY-4.0", ("10.1038/s41592-018-0261-2",))

needs_bioimageio = pytest.mark.skipif(
    importlib.util.find_spec("bioimageio") is None,
    reason="bioimageio.core is not installed: pip install 'unetjax[bioimageio]'",
)
# Of bioimageio, which leaves files open, and of the libraries below it.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{warning}")
    for warning in (
        *("DeprecationWarning", "FutureWarning", "UserWarning", "ResourceWarning"),
        "pytest.PytestUnraisableExceptionWarning",
    )
]


def make(scaling="percentile", image_dtype="uint16", channels=1, **options):
    model = UNet(**{"features": 2, "depth": 1, **options})
    side = model.geometry.input_size(8)

    def init():
        image = jnp.zeros((1, side, side, channels))
        return model.init(jax.random.key(0), image, train=False)

    shapes = jax.eval_shape(init)  # nothing is compiled
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.3, leaf.shape).astype(np.float32), shapes
    )["params"]
    return TrainedModel(
        model,
        params,
        input_scaling=InputScaling(scaling),
        class_names=("background", "nucleus"),
        provenance=Provenance(image_dtype=image_dtype, scores={"ap": 0.51234}),
    )


def size_fields(fields):
    (image,), (output,) = fields["inputs"], fields["outputs"]
    return image["axes"][2]["size"], output["axes"][2]


@pytest.mark.parametrize(
    ("options", "least", "step", "halo"),
    [
        # The paper's network loses 92 pixels a side: the next multiple of 16 is 96.
        ({"depth": 4}, 208, 16, 96),
        ({"depth": 4, "padding": "SAME"}, 240, 16, 112),
        ({"depth": 0}, 5, 1, 2),
    ],
)
def test_sizes_follow_from_the_geometry(options, least, step, halo):
    fields = bioimageio.describe(make(**options), "nuclei", ABOUT)
    size, axis = size_fields(fields)
    assert size == {"min": least, "step": step}
    assert axis["halo"] == halo
    assert axis["size"] == {"tensor_id": "image", "axis_id": "y"}


@pytest.mark.parametrize("side", [104, 112])
def test_a_graph_of_one_size_has_the_output_in_a_rim_of_zeros(side):
    """Sides are multiples of the period, 8, which are not legal for the network."""
    pytest.importorskip("onnx")
    trained = make(depth=3)
    margin, halo = trained.model.geometry.margin, 48
    tile = np.random.default_rng(0).random((1, side, side, 1)).astype(np.float32)
    _, whole = onnx.load_runtime(onnx.to_onnx(trained, same_size=True))
    _, plain = onnx.load_runtime(onnx.to_onnx(trained))
    found, skipped = whole(tile)[0], halo - margin
    assert found.shape[:2] == (side, side)
    inside = plain(tile[:, skipped:, skipped:])[0]
    np.testing.assert_allclose(found[halo:-margin, halo:-margin], inside, atol=1e-6)
    assert not found[:halo].any()
    assert not found[:, -margin:].any()


def applied(steps, image):
    """The steps of the specification, written down from its formulas."""
    x = image.astype(np.float64)
    for step in steps:
        kwargs = step["kwargs"]
        axes = tuple({"y": 0, "x": 1}[axis] for axis in kwargs.get("axes", ()))
        if step["id"] == "clip":
            x = np.clip(x, kwargs["min"], kwargs["max"])
        elif step["id"] == "scale_linear":
            x = x * kwargs["gain"]
        elif step["id"] == "zero_mean_unit_variance":
            x = (x - x.mean(axes)) / (x.std(axes) + kwargs["eps"])
        elif step["id"] == "scale_range":
            ends = kwargs["min_percentile"], kwargs["max_percentile"]
            low, high = np.percentile(x, ends, axis=axes)
            x = (x - low) / (high - low + kwargs["eps"])
        else:
            assert step == {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}
    return x


@pytest.mark.parametrize(
    "scaling",
    [
        *map(InputScaling, ("unit", "minmax", "percentile", "zscore", "none")),
        InputScaling("unit", clip=(None, 900)),
        InputScaling("none", clip=(100, 900)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_described_scaling_is_that_of_the_model(scaling, dtype):
    highest = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, highest, (40, 30, 2)).astype(dtype)
    steps = bioimageio.preprocessing(scaling, dtype)
    np.testing.assert_allclose(
        applied(steps, image), input_scaling.scale(image, scaling), rtol=1e-5, atol=1e-6
    )


def test_what_tools_would_compute_otherwise_is_refused():
    """They measure an image before it is clipped, and choose tiles of their own."""
    with pytest.raises(ValueError, match=r"'percentile' after clipping to \(0, 9\)"):
        bioimageio.preprocessing(InputScaling("percentile", clip=(0, 9)), "uint8")
    with pytest.raises(ValueError, match=r"norm 'group' .* export to \.onnx"):
        bioimageio.describe(make(norm="group"), "nuclei", ABOUT)


@pytest.mark.parametrize(
    ("authors", "license", "message"),
    [
        ((), "MIT", "needs the names of its authors; give --author"),
        ((" ",), "MIT", "needs the names of its authors"),
        (("Ada",), "", "needs a licence; .* --license CC-BY-4.0"),
    ],
)
def test_authors_and_licence_must_be_given(authors, license, message):
    with pytest.raises(ValueError, match=message):
        Publication(authors, license)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a.pt"], "a.pt must end in .onnx, .stablehlo, .zip."),
        (["a.onnx", "--format", "bioimageio"], "a.onnx must end in .zip as bioimageio"),
        (["a.onnx", "--author", "Ada"], "--author is of bioimage.io packages only"),
        (["a.zip", "--tile-size", "64"], "--tile-size is of .stablehlo files only"),
        (["a.zip"], "a bioimage.io package needs the names of its authors"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, argv, message):
    model_folder.save_model(tmp_path / "model", make())
    name, *options = argv
    argv = ["export", str(tmp_path / "model"), str(tmp_path / name), *options]
    assert main.main(argv) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@needs_bioimageio
@pytest.mark.parametrize(
    "options",
    [
        {"scaling": "percentile", "channels": 2},
        {"scaling": "unit", "image_dtype": "uint8", "padding": "SAME", "depth": 2},
        {"scaling": "zscore", "target": "distances"},
        {"scaling": "minmax", "depth": 0},
    ],
    ids=str,
)
def test_a_package_is_valid_and_gives_the_pixels_of_the_model(tmp_path, options):
    from bioimageio import core

    trained = make(**options)
    done = bioimageio.export(trained, tmp_path / "nuclei.zip", ABOUT)
    assert done.difference < 1e-5
    assert done.runtime == "bioimageio.core"
    # The library's own test: test input and output, and other sizes and batches.
    summary = core.test_model(tmp_path / "nuclei.zip")
    assert summary.status != "failed", summary.display()


@needs_bioimageio
def test_the_command_writes_authors_licence_citations_and_scores(tmp_path, capsys):
    model_folder.save_model(tmp_path / "model", make())
    argv = ["export", str(tmp_path / "model"), str(tmp_path / "nuclei.zip")]
    options = ["--author", "Ada Lovelace", "--license", "MIT", "--cite", "10.5281/x"]
    assert main.main([*argv, *options]) == 0
    printed = capsys.readouterr()
    assert "bioimageio.core differs from JAX by at most" in printed.out
    assert printed.err == ""
    with zipfile.ZipFile(tmp_path / "nuclei.zip") as package:
        assert {"weights.onnx", "test_input.npy", "test_output.npy"} <= set(
            package.namelist()
        )
        fields = package.read("rdf.yaml").decode()
        readme = package.read("README.md").decode()
    assert "Ada Lovelace" in fields
    assert "license: MIT" in fields
    assert "doi: 10.5281/x" in fields
    assert "doi: 10.1007/978-3-319-24574-4_28" in fields
    assert "- ap: 0.512" in readme
    assert "values of any type" in readme


@needs_bioimageio
def test_a_description_that_is_not_valid_is_not_written(tmp_path):
    about = Publication(("Ada",), "no licence of this name")
    with pytest.raises(ValueError, match=r"bioimageio\.spec does not accept .*licen"):
        bioimageio.export(make(), tmp_path / "nuclei.zip", about)
    assert not list(tmp_path.iterdir())


@needs_bioimageio
def test_a_package_that_differs_is_not_written(tmp_path, monkeypatch):
    """As if the graph in the package computed something else."""
    whole, other = onnx.to_onnx, make()
    other.params["head"]["bias"] = other.params["head"]["bias"] + np.float32([0, 1])
    monkeypatch.setattr(onnx, "to_onnx", lambda _, **options: whole(other, **options))
    with pytest.raises(ValueError, match=r"written: bioimageio.core differs .* 0\."):
        bioimageio.export(make(), tmp_path / "nuclei.zip", ABOUT)
    assert not list(tmp_path.iterdir())
