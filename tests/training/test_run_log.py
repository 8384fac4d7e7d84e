import numpy as np
import pytest

from unetjax.training import run_log


def warning(confusion, probs=()):
    return run_log.collapse_warning(
        np.array(confusion), list(probs), step=500, learning_rate=0.01
    )


def probabilities(foreground):
    return np.stack([1 - foreground, foreground], axis=-1).astype(np.float32)


@pytest.mark.parametrize(
    ("confusion", "collapsed"),
    [
        ([[900, 0], [100, 0]], True),  # all background
        ([[0, 900], [0, 100]], True),  # all foreground
        ([[900, 0], [99, 1]], False),  # one hundredth of the cell pixels is right
        ([[1000, 0], [0, 0]], False),  # there are no cells
        ([[0, 0], [0, 0]], False),  # nothing is annotated
        ([[800, 0, 0], [100, 0, 0], [100, 0, 0]], True),
        ([[800, 0, 0], [100, 0, 0], [0, 0, 100]], False),  # another class is predicted
    ],
)
def test_only_a_single_class_is_a_collapse(confusion, collapsed):
    assert bool(warning(confusion)) == collapsed


def test_the_warning_names_the_class_and_its_true_share():
    text = warning([[0, 900], [0, 100]])
    assert text.startswith(
        "step 500: nearly every validation pixel is predicted as class"
    )
    assert "class 1, which is the true class of 10.0%" in text


def test_dead_and_undecided_networks_get_different_advice():
    """The output of a dead network is constant: more training would not help."""
    confusion = [[900, 0], [100, 0]]
    dead = warning(confusion, [probabilities(np.full((4, 4), 0.2))])
    assert "the activations are dead: lower optimizer.learning_rate (now 0.01)" in dead
    follows_image = np.linspace(0, 0.4, 16).reshape(4, 4)
    undecided = warning(confusion, [probabilities(follows_image)])
    assert "This is common early in training, and the output does follow" in undecided
    assert "weight_map.class_balance" in undecided
