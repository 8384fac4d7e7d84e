import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.networks import normal
from unetjax import losses
from unetjax.data.batch import Batch
from unetjax.devices import parallel
from unetjax.devices.settings import Partition
from unetjax.network.unet import UNet
from unetjax.training import steps

# No pooling, as compilation takes nearly all of the time and the step is the same.
MODEL = UNet(features=2, depth=0, dropout_rate=0.0)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
STEP = functools.partial(steps.train_step, model=MODEL, optimizer=OPTIMIZER)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return Batch(
        image=normal(4, 8, 8, 1),
        label=jnp.asarray(rng.integers(0, 2, (4, 4, 4)), jnp.int32),
        weight=jnp.asarray(rng.uniform(1, 11, (4, 4, 4)), jnp.float32),
    )


def init_state(model, key, batch):
    """Compiled, as every operation on its own takes as long to compile."""
    return jax.jit(steps.init_state, static_argnums=(0, 1))(
        model, OPTIMIZER, key, batch["image"]
    )


@pytest.fixture
def state(key, batch):
    return init_state(MODEL, key, batch)


@pytest.mark.parametrize("loss", ["cross_entropy", "soft_dice"])
def test_two_devices_take_the_step_of_one(key, batch, state, loss):
    """Data parallelism must not change the update, however uneven the weights."""
    batch["weight"] = batch["weight"].at[2:].multiply(0.1)  # uneven shards
    batch["label"] = batch["label"].at[3, 1:].set(-1)
    step = functools.partial(STEP, loss=losses.build_loss(loss))
    expected = jax.jit(step)(state, batch, key)
    actual = parallel.data_parallel(step)(
        parallel.replicate(state), parallel.shard(batch, 2), key
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, actual, expected)


def test_jit_takes_the_step_of_pmap_bit_for_bit(key, batch, state):
    """Also with dropout, whose masks depend on the device."""
    batch["weight"] = batch["weight"].at[2:].multiply(0.1)  # uneven shards
    step = functools.partial(STEP, model=MODEL.clone(dropout_rate=0.5))

    def train(partition):
        run = parallel.data_parallel(step, partition=partition)
        current = parallel.replicate(jax.tree.map(jnp.copy, state))
        for _ in range(3):
            current, metrics = run(current, parallel.shard(batch, 2), key)
        return current, metrics

    jax.tree.map(np.testing.assert_array_equal, train("jit"), train("pmap"))


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_takes_the_step_of_one_device(key, batch, check_vma):
    """Also with its default checks, under which JAX sums gradients by itself."""
    batch["weight"] = batch["weight"].at[2:].multiply(0.1)  # uneven shards
    model = MODEL.clone(norm="batch")
    state = init_state(model, key, batch)
    step = functools.partial(steps.train_step, model=model, optimizer=OPTIMIZER)
    spec = jax.sharding.PartitionSpec
    mapped = jax.shard_map(
        functools.partial(step, axis_name="batch"),
        mesh=jax.sharding.Mesh(jax.devices()[:2], ("batch",)),
        in_specs=(spec(), spec("batch"), spec()),
        out_specs=spec(),
        check_vma=check_vma,
    )
    actual = jax.jit(mapped)(state, batch, key)
    expected = parallel.data_parallel(step)(  # donates the state
        parallel.replicate(state), parallel.shard(batch, 2), key
    )
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, actual, expected)


@pytest.mark.parametrize("partition", get_args(Partition))
def test_data_parallel_compiles_once(key, batch, state, partition):
    traces = []

    def step(state, batch, key, *, axis_name):
        traces.append(axis_name)
        return STEP(state, batch, key, axis_name=axis_name)

    run = parallel.data_parallel(step, partition=partition)
    state = parallel.replicate(state)
    for _ in range(3):
        state, _ = run(state, parallel.shard(batch, 2), key)
    assert traces == [parallel.AXIS]


def test_compiled_step_is_the_plain_step(key, batch, state):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, jax.jit(STEP)(state, batch, key), STEP(state, batch, key))


def test_momentum_is_the_textbook_update(key, batch, state):
    """v = 0.9 v + g; p = p - 0.1 v, over three steps."""
    loss = losses.build_loss()

    def objective(params):
        logits = MODEL.apply({"params": params}, batch["image"], train=False)
        return loss.value(loss.sums(logits, batch["label"], batch["weight"]))

    gradient, step = jax.jit(jax.grad(objective)), jax.jit(STEP)
    params = state.params
    velocity = jax.tree.map(jnp.zeros_like, params)
    for _ in range(3):
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient(params))
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
        state, metrics = step(state, batch, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params, params
    )
    assert state.step == 3
    assert metrics.grad_norm > 0


def test_accuracy_counts_annotated_pixels_only(key, batch, state):
    logits = MODEL.apply({"params": state.params}, batch["image"], train=False)
    right = logits.argmax(-1)
    batch["label"] = right.at[:, 0].set(1 - right[:, 0]).at[:, 1:3].set(-1)
    _, metrics = jax.jit(STEP)(state, batch, key)
    assert metrics.accuracy == 0.5


def test_dropout_follows_step_and_device(key, batch):
    """A resumed run repeats its masks: they depend on the state's step alone."""
    model = MODEL.clone(dropout_rate=0.5)
    step = jax.jit(functools.partial(STEP, model=model))
    state = init_state(model, key, batch)
    later = state._replace(step=jnp.array(5))
    losses_of = [float(step(s, batch, key)[1].loss) for s in (state, state, later)]
    assert losses_of[0] == losses_of[1] != losses_of[2]


@pytest.mark.parametrize(("size", "devices"), [(3, 2), (1, 4)])
def test_shard_rejects_an_uneven_batch(size, devices):
    with pytest.raises(ValueError, match=rf"multiple of {devices} devices, got {size}"):
        parallel.shard({"image": jnp.zeros((size, 8))}, devices)


def test_batch_norm_statistics_are_updated(key, batch):
    model = MODEL.clone(norm="batch")
    state = init_state(model, key, batch)
    step = functools.partial(STEP, model=model)
    before = jax.tree.map(np.array, state.model_state)  # the state is donated
    after, _ = parallel.data_parallel(step)(
        parallel.replicate(state), parallel.shard(batch, 2), key
    )
    changed = jax.tree.map(lambda a, b: (a != b).any(), before, after.model_state)
    assert len(jax.tree.leaves(changed)) == 4  # of two convolutions
    assert any(jax.tree.leaves(changed))


def test_norms_of_every_array_make_the_norm_of_all(key, batch, state):
    """On request only, by the path of the parameter, and of the global gradient."""
    step = functools.partial(STEP, log_grad_norms=True)
    _, metrics = jax.jit(step)(state, batch, key)
    paths = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree.leaves_with_path(state.params)
    }
    assert set(metrics.grad_norms) == paths
    assert "bottleneck/conv_0/kernel" in paths
    total = np.sqrt(sum(float(norm) ** 2 for norm in metrics.grad_norms.values()))
    np.testing.assert_allclose(total, metrics.grad_norm, rtol=1e-5)
    assert jax.eval_shape(STEP, state, batch, key)[1].grad_norms is None

    _, shared = parallel.data_parallel(step)(
        parallel.replicate(state), parallel.shard(batch, 2), key
    )
    for name, norm in shared.grad_norms.items():
        np.testing.assert_allclose(norm, metrics.grad_norms[name], rtol=1e-4, atol=1e-7)


def test_a_loss_of_another_target_than_that_of_the_model_is_refused():
    """The softmax would run over distances as well, and train without complaint."""
    model = UNet(features=1, depth=0, target="distances")
    batch = Batch(
        image=jnp.zeros((1, 12, 12, 1)),
        label=jnp.zeros((1, 8, 8), int),
        weight=jnp.ones((1, 8, 8)),
    )
    state = init_state(model, jax.random.key(0), batch)
    step = functools.partial(steps.train_step, model=model, optimizer=OPTIMIZER)

    def update(batch, **options):
        compiled = jax.jit(functools.partial(step, **options))
        return compiled(state, batch, jax.random.key(1))

    with pytest.raises(ValueError, match="loss must be that of the target 'distances'"):
        update(batch)
    loss = losses.build_loss(target="distances")
    with pytest.raises(ValueError, match="batch must have the maps of the target"):
        update(batch, loss=loss)
    batch["maps"] = jnp.zeros((1, 8, 8, 2))
    assert jnp.isfinite(update(batch, loss=loss)[1].loss)
