"""Probabilities of whole images, from the host to the host."""

import functools
from collections.abc import Iterator
from types import ModuleType

import numpy as np
from jaxtyping import Float32

from unetjax.inference.predict import Engine, predict
from unetjax.inference.trained_model import TrainedModel
from unetjax.model_io import openvino

from . import contenders, measuring, network
from .measuring import OURS, Case, Contender, Row
from .plan import Plan


def predictions(plan: Plan, _: dict[str, float]) -> Iterator[list[Row]]:
    """Measures the probabilities of images; PyTorch computes them in usual tiles."""
    for features, side in plan.images:
        case = Case("predict", f"base {features}, image of {side} x {side} pixels")
        config = network.experiment(plan, features)
        params = network.initial_state(config).params
        image = np.random.default_rng(0).standard_normal((side, side))
        image = image.astype(np.float32)
        trained = [
            TrainedModel(config.model.clone(dtype=precision), params)
            for precision in plan.precisions
        ]
        found = [
            *(_ours(each, image) for each in trained),
            *(_openvino(each, image) for each in trained),
            *(_peer(each, image, plan.tile_size) for each in trained),
        ]
        yield measuring.measure(case, found, plan.effort)


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
    run = contenders.repeat(work)
    return Contender(name, run, str(trained.model.dtype), note=note)


def _openvino(trained: TrainedModel, image: Float32[np.ndarray, "H W"]) -> Contender:
    name = f"{OURS}, OpenVINO"
    try:
        engine = openvino.compile_network(trained)
    except (ModuleNotFoundError, ValueError) as error:
        return Contender(name, None, str(trained.model.dtype), note=str(error))
    return _ours(trained, image, name, engine)


def _peer(
    trained: TrainedModel, image: Float32[np.ndarray, "H W"], tile_size: int
) -> Contender:
    precision = str(trained.model.dtype)

    def make(peer: ModuleType, where: str) -> Contender:
        net = peer.from_flax(trained.model, trained.params, device=where)
        run = functools.partial(
            peer.predict_image,
            net,
            image,
            tile_size=tile_size,
            batch_size=1 if where == "cpu" else 8,
            precision=precision,
        )
        step = trained.model.geometry.output_size(tile_size)
        count = len(peer.corners(image.shape, step))
        note = f"{count} tiles of {tile_size}, with a stride of their output size"
        return Contender("PyTorch", contenders.repeat(run), precision, note=note)

    return contenders.of_torch("PyTorch", precision, make)
