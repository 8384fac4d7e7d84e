"""Files beside the package agree with it: citation, recipe, images, hooks, forms."""

import pathlib
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

import unetjax
from unetjax.cli import main

ROOT = pathlib.Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
CONDA_NAMES = {
    "flatbuffers": "python-flatbuffers",
    "importlib-resources": "importlib_resources",
    "lazy-loader": "lazy_loader",
}


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    assert citation["version"] == recipe["context"]["version"] == PROJECT["version"]
    assert unetjax.__version__ == PROJECT["version"]
    assert citation["license"] == recipe["about"]["license"] == PROJECT["license"]


def test_the_recipe_requires_what_the_package_requires():
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    required = dict(line.partition(" ")[::2] for line in recipe["requirements"]["run"])
    minimum = PROJECT["requires-python"].removeprefix(">=")
    assert recipe["context"]["python_min"] == minimum
    assert required.pop("python") == ">=${{ python_min }}"
    asked = map(Requirement, PROJECT["dependencies"])
    expected = {CONDA_NAMES.get(r.name, r.name): set(r.specifier) for r in asked}
    assert {
        name: set(Requirement(f"a{text}").specifier) for name, text in required.items()
    } == expected
    (entry_point,) = recipe["build"]["python"]["entry_points"]
    assert entry_point == f"unetjax = {PROJECT['scripts']['unetjax']}"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_made_of_what_exists(path):
    text = path.read_text()
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    assert set(" ".join(copied).split()) == {
        *("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]),
        *WHEEL["only-include"],
    }
    (extras,) = re.findall(r"pip install .*\[(.*)\]", text)
    arguments = dict(re.findall(r"^ARG (\w+)=(\w+)$", text, re.MULTILINE))
    for extra in extras.split(","):
        name = arguments.get(extra.strip("${}"), extra)
        assert name in PROJECT["optional-dependencies"], name
    (program,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.MULTILINE)
    assert program in PROJECT["scripts"]
    (example,) = re.findall(r"^#   docker run .* unetjax\S* (.*)$", text, re.MULTILINE)
    main.make_parsers()[0].parse_args(example.split())
    assert f"-f docker/{path.name} " in text


def test_every_extra_is_explained():
    page = (ROOT / "docs" / "install.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert explained == list(PROJECT["optional-dependencies"])


def test_hooks_before_a_commit_run_the_programs_of_make_lint():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = (ROOT / "Makefile").read_text().split("\nlint: setup\n")[1]
    linters = re.findall(r"\$\(BIN\)/(\w+ \w+)", recipe.split("\n\n")[0])
    assert local["repo"] == "local"
    assert [hook["name"] for hook in local["hooks"]] == linters
    for hook in local["hooks"]:
        assert hook["entry"].startswith(f".venv/bin/{hook['name']}")


def test_templates_of_issues_are_forms_that_ask():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    for path in set(folder.glob("*.yml")) - {folder / "config.yml"}:
        form = yaml.safe_load(path.read_text())
        assert form["name"]
        assert form["description"]
        identifiers = [field["id"] for field in form["body"]]
        assert len(set(identifiers)) == len(identifiers)
        assert any(field.get("validations") for field in form["body"])
