"""Imported networks compute what PyTorch computes.

The networks are written here with the names, and the order of operations, of the
projects that `state_dicts.LAYOUTS` lists; widths and depths are small.
"""

import pathlib
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from unetjax.cli import main
from unetjax.data import synthetic
from unetjax.files import images
from unetjax.model_io import model_folder, state_dicts
from unetjax.network.forward import forward

WIDTHS = (4, 8, 16)
FEATURES = 4


def block(torch, ins, outs, *, bias, norm, padding):
    nn, layers = torch.nn, []
    for channels in (ins, outs):
        layers += [nn.Conv2d(channels, outs, 3, padding=padding, bias=bias)]
        layers += [nn.BatchNorm2d(outs)] if norm else []
        layers += [nn.ReLU()]
    return nn.Sequential(*layers)


def milesial(torch):
    """Names inc, down1, ..., up1, ..., outc; the skip is concatenated first."""
    nn = torch.nn

    class Double(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            options = {"bias": False, "norm": True, "padding": 1}
            self.double_conv = block(torch, ins, outs, **options)

        def forward(self, x):
            return self.double_conv(x)

    class Down(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), Double(ins, outs))

        def forward(self, x):
            return self.maxpool_conv(x)

    class Up(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            self.up = nn.ConvTranspose2d(ins, outs, 2, 2)
            self.conv = Double(ins, outs)

        def forward(self, x, skip):
            return self.conv(torch.cat([skip, self.up(x)], 1))

    class Out(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            self.conv = nn.Conv2d(ins, outs, 1)

        def forward(self, x):
            return self.conv(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            a, b, c = WIDTHS
            self.inc, self.outc = Double(3, a), Out(a, 2)
            self.down1, self.down2 = Down(a, b), Down(b, c)
            self.up1, self.up2 = Up(c, b), Up(b, a)

        def forward(self, x):
            x1 = self.inc(x)
            x2 = self.down1(x1)
            return self.outc(self.up2(self.up1(self.down2(x2), x2), x1))

    return Net()


def jvanvugt(torch):
    """Names down_path, up_path, last; valid convolutions, the skip comes second."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            self.block = block(torch, ins, outs, bias=True, norm=False, padding=0)

        def forward(self, x):
            return self.block(x)

    class Up(nn.Module):
        def __init__(self, ins, outs):
            super().__init__()
            self.up = nn.ConvTranspose2d(ins, outs, 2, 2)
            self.conv_block = Block(ins, outs)

        def forward(self, x, skip):
            x = self.up(x)
            rim = (skip.shape[-1] - x.shape[-1]) // 2
            side = slice(rim, rim + x.shape[-1])
            return self.conv_block(torch.cat([x, skip[:, :, side, side]], 1))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            ins = (1, *WIDTHS[:-1])
            self.down_path = nn.ModuleList(map(Block, ins, WIDTHS))
            self.up_path = nn.ModuleList(map(Up, WIDTHS[:0:-1], WIDTHS[-2::-1]))
            self.last = nn.Conv2d(WIDTHS[0], 3, 1)

        def forward(self, x):
            skips = []
            for down in self.down_path[:-1]:
                skips.append(down(x))
                x = nn.functional.max_pool2d(skips[-1], 2)
            x = self.down_path[-1](x)
            for up in self.up_path:
                x = up(x, skips.pop())
            return self.last(x)

    return Net()


def mateuszbuda(torch):
    """Names encoder1.enc1conv1, ...; one output, the skip comes second."""
    nn = torch.nn

    def named(ins, outs, name):
        layers = block(torch, ins, outs, bias=False, norm=True, padding=1)
        kinds = ("conv1", "norm1", "relu1", "conv2", "norm2", "relu2")
        parts = {name + kind: x for kind, x in zip(kinds, layers, strict=True)}
        return nn.Sequential(OrderedDict(parts))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            a, b, c = WIDTHS
            self.encoder1, self.encoder2 = named(3, a, "enc1"), named(a, b, "enc2")
            self.bottleneck = named(b, c, "bottleneck")
            self.upconv2 = nn.ConvTranspose2d(c, b, 2, 2)
            self.decoder2 = named(c, b, "dec2")
            self.upconv1 = nn.ConvTranspose2d(b, a, 2, 2)
            self.decoder1 = named(b, a, "dec1")
            self.conv = nn.Conv2d(a, 1, 1)

        def forward(self, x):
            pool = nn.MaxPool2d(2)
            x1 = self.encoder1(x)
            x2 = self.encoder2(pool(x1))
            x = self.bottleneck(pool(x2))
            x = self.decoder2(torch.cat((self.upconv2(x), x2), 1))
            x = self.decoder1(torch.cat((self.upconv1(x), x1), 1))
            return self.conv(x)

    return Net()


NETWORKS = {"milesial": milesial, "jvanvugt": jvanvugt, "mateuszbuda": mateuszbuda}


@pytest.fixture
def make():
    """A function from the name of a layout to PyTorch and a network."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    def make(name):
        torch.set_num_threads(1)
        torch.manual_seed(0)
        network = NETWORKS[name](torch).eval()
        for key, value in network.state_dict().items():  # not those of a new network
            if "num_batches" not in key and value.ndim == 1:
                value.uniform_(0.5, 1.5)
        return torch, network

    return make


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_are_those_of_pytorch(make, name, tmp_path):
    torch, network = make(name)
    path = tmp_path / "weights.pth"
    prefixed = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": prefixed}, path)
    trained = state_dicts.to_model(state_dicts.read(path))
    side = 44 if name == "jvanvugt" else 32
    channels = 1 if name == "jvanvugt" else 3
    image = np.random.default_rng(0).random((2, side, side, channels), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.moveaxis(image, -1, 1)))
    expected = np.moveaxis(expected.numpy(), 1, -1)
    logits, _ = forward(
        trained.model, trained.params, dict(trained.model_state), jnp.asarray(image)
    )
    logits = np.asarray(logits)
    if name == "mateuszbuda":  # one output: the difference to the background
        logits = logits[..., 1:] - logits[..., :1]
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_a_changed_network_is_refused(make):
    _, network = make("milesial")
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"lacks, such as 'attention.weight'; a chang"):
        state_dicts.to_model({**arrays, "attention.weight": np.zeros(3)})
    without = {k: v for k, v in arrays.items() if k != "up2.up.weight"}
    with pytest.raises(ValueError, match=r"no array|lacks, such as"):
        state_dicts.to_model(without)


def test_what_is_not_weights_alone_is_not_executed(make, tmp_path):
    torch, network = make("jvanvugt")
    path = tmp_path / "network.pth"
    torch.save({"state_dict": network.state_dict(), "note": pathlib.Path("a")}, path)
    with pytest.raises(ValueError, match=r"holds more than weights, or is damaged"):
        state_dicts.read(path)


def names_of(layout, depth, channels=1, classes=2):
    """Arrays of a layout with one convolution name after the other, made by NumPy."""
    rng = np.random.default_rng(0)
    widths = [FEATURES << level for level in range(depth + 1)]
    arrays = {}

    def add(name, *shape):
        arrays[f"{name}.weight"] = rng.normal(0, 0.2, shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.2, shape[:1]).astype(np.float32)

    for level, width in enumerate(widths):
        for i, ins in enumerate((widths[level - 1] if level else channels, width)):
            add(f"down_path.{level}.block.{2 * i}", width, ins, 3, 3)
    for k, width in enumerate(reversed(widths[:-1])):
        add(f"up_path.{k}.up", 2 * width, width, 2, 2)
        arrays[f"up_path.{k}.up.bias"] = np.zeros(width, np.float32)
        for i, ins in enumerate((2 * width, width)):
            add(f"up_path.{k}.conv_block.block.{2 * i}", width, ins, 3, 3)
    add("last", classes, FEATURES, 1, 1)
    return arrays


def test_a_safetensors_file_becomes_a_model_that_predicts_and_trains(tmp_path, capsys):
    """From the command line, without PyTorch."""
    weights, model = tmp_path / "w.safetensors", tmp_path / "model"
    safetensors.numpy.save_file(names_of("jvanvugt", 1), weights)
    assert main.main(["import", str(weights), str(model), "--padding", "SAME"]) == 0
    assert "layout jvanvugt: depth 1, 4 features, 2 classes, SAME" in (
        capsys.readouterr().out
    )
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        cells = synthetic.touching_cells(0, i, size=(48, 56), num_cells=4, radius=6.0)
        images.write_image(tmp_path / "images" / f"{i}.tif", cells.image)
        images.write_labels(tmp_path / "masks" / f"{i}.tif", cells.instances)
    argv = ["predict", str(model), str(tmp_path / "images"), "--out"]
    assert main.main([*argv, str(tmp_path / "out")]) == 0
    argv = ["train", str(tmp_path / "images"), str(tmp_path / "masks"), "--steps", "2"]
    argv += ["--from", str(model), "--out", str(tmp_path / "run")]
    assert main.main([*argv, "--set", "tile_size=20"]) == 0
    further = model_folder.load_model(tmp_path / "run")
    before = model_folder.load_model(model).params["encoder_0"]["conv_0"]["kernel"]
    change = np.abs(further.params["encoder_0"]["conv_0"]["kernel"] - before).max()
    assert 0 < change < 0.05  # it began with the imported weights
    assert main.main(["import", str(weights), str(model)]) == 2
    assert "exists; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("down_path.0.block.2.running_mean", "with batch normalisation after activat"),
        ("up_path.0.up.1.weight", "jvanvugt with bilinear up-sampling, which UNet"),
    ],
)
def test_variants_that_cannot_be_expressed_are_refused(name, message):
    arrays = {**names_of("jvanvugt", 1), name: np.zeros(4, np.float32)}
    with pytest.raises(ValueError, match=message):
        state_dicts.to_model(arrays)


def test_unknown_files_and_networks_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"known U-Net; layouts .* milesial, jvanvugt, "
    ):
        state_dicts.to_model({"features.0.weight": np.zeros((4, 1, 3, 3))})
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ValueError, match=r"a\.onnx cannot be imported: accepted are"):
        state_dicts.read(tmp_path / "a.onnx")
    (tmp_path / "a.safetensors").write_bytes(b"no such file")
    with pytest.raises(ValueError, match=r"cannot be read as safetensors"):
        state_dicts.read(tmp_path / "a.safetensors")
