"""Documentation pages agree with the code: tables, examples, names of tests."""

import doctest
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from tests import recipes
from unetjax import settings
from unetjax.network import presets
from unetjax.training import config as configs

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
PRESETS = ("paper", "release2015", "falk2019", "tf_unet")


def num_parameters(config):
    image = jnp.zeros((1, config.tile_size, config.tile_size, 1))
    variables = jax.eval_shape(
        lambda key: config.model.init(key, image, train=False), jax.random.key(0)
    )
    return sum(x.size for x in jax.tree.leaves(variables))


def preset_table():
    """One row for every option in which a preset differs from the paper's."""
    loaded = [recipes.load(name) for name in PRESETS]
    options = [dict(settings.flatten(configs.to_dict(config))) for config in loaded]
    lines = [f"| option | {' | '.join(PRESETS)} |", "|---" * (len(PRESETS) + 1) + "|"]
    for name, value in options[0].items():
        if any(each[name] != value for each in options):
            cells = [
                f"`{each[name]!r}`" if i == 0 or each[name] != value else ""
                for i, each in enumerate(options)
            ]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    counts = [f"{num_parameters(config):,}" for config in loaded]
    lines.append(f"| parameters, 1 channel | {' | '.join(counts)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_holds_the_network_of_its_preset(name):
    """The two places where a preset is written down must agree."""
    assert recipes.load(name).model == getattr(presets, name)()


def test_the_table_of_presets_is_that_of_the_configs():
    table = preset_table()
    page = (ROOT / "docs" / "presets.md").read_text()
    assert table in page, f"docs/presets.md must hold this table:\n\n{table}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_of_a_page_run(page):
    results = doctest.testfile(
        str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert not results.failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tests_and_files_that_a_page_names_exist(page):
    """Names such as `tests/a/test_b.py::test_c` and `unetjax/a.py`, in backticks."""
    for quoted in page.read_text().split("`")[1::2]:
        path, _, test = quoted.partition("::")
        if path.startswith(("tests/", "unetjax/", "ml_collections_configs/")):
            assert (ROOT / path).exists(), quoted
            assert not test or f"def {test}(" in (ROOT / path).read_text(), quoted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_of_a_page_exist_and_are_small(page):
    names = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
    sizes = [(page.parent / name).stat().st_size for name in names]
    assert sum(sizes) < 300_000, dict(zip(names, sizes, strict=True))
