"""Probabilities of whole images, end to end, beside the usual tiles in PyTorch."""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Float32, PyTree

from experiments.benchmarks import machine, measuring, network
from experiments.benchmarks.measuring import OURS, Case, Contender, Row
from experiments.benchmarks.plan import Plan
from unetjax.inference.predict import Engine, predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import openvino
from unetjax.network.unet import UNet


def predictions(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures probabilities of images on the host, back on the host."""
    for features, side in plan.images:
        model = UNet(features=features, depth=plan.depth)
        case = Case("predict", f"base {features}, image of {side} x {side} pixels")
        params = network.initial_params(model, plan.tile_size)
        image = np.random.default_rng(0).standard_normal((side, side))
        image = image.astype(np.float32)
        contenders = [
            _ours(TrainedModel(model.clone(dtype=precision), params), image)
            for precision in plan.precisions
        ]
        contenders += [
            _openvino(TrainedModel(model.clone(dtype=precision), params), image)
            for precision in plan.precisions
        ]
        contenders += [
            _peer(plan, model, params, image, precision)
            for precision in plan.precisions
        ]
        yield measuring.measure(case, contenders, plan.effort)


def _openvino(trained: TrainedModel, image: Float32[np.ndarray, "H W"]) -> Contender:
    name = f"{OURS}, OpenVINO"
    try:
        engine = openvino.compile_network(trained)
    except (ModuleNotFoundError, ValueError) as error:
        return machine.absent(name, str(trained.model.dtype), str(error))
    return _ours(trained, image, name, engine)


def _ours(
    trained: TrainedModel,
    image: Float32[np.ndarray, "H W"],
    name: str = OURS,
    engine: Engine | None = None,
) -> Contender:
    counts = list[int]()
    work = functools.partial(predict, trained, image, engine=engine)
    first = measuring.seconds(
        lambda _: work(progress=lambda _, total: counts.append(total))
    )
    note = f"{counts[-1]} tile{'s' if counts[-1] > 1 else ''}, first call {first:.1f} s"
    return Contender(
        name, lambda n: [work() for _ in range(n)], str(trained.model.dtype), note=note
    )


def _peer(
    plan: Plan,
    model: UNet,
    params: PyTree,
    image: Float32[np.ndarray, "H W"],
    precision: str,
) -> Contender:
    peer, name = machine.torch_unet(), "PyTorch"
    if peer is None:
        return machine.absent(name, precision, machine.NO_TORCH)
    try:
        where = peer.device(jax.default_backend())
    except ValueError as error:
        return machine.absent(name, precision, str(error))
    net = peer.from_flax(model, params, device=where)
    batch_size = 1 if where == "cpu" else 8
    work = functools.partial(
        peer.predict_image,
        net,
        image,
        tile_size=plan.tile_size,
        batch_size=batch_size,
        precision=precision,
    )
    count = len(peer.corners(image.shape, peer.trusted(net, plan.tile_size)))
    note = f"{count} tiles of {plan.tile_size}, as far apart as their output is wide"
    return Contender(name, lambda n: [work() for _ in range(n)], precision, note=note)
