"""The folder mapping, the wheel, and the weight of the in-path import."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "classifier", "training", "eval", "serve"]
HEAVY = ["torch", "sklearn", "pandas", "mlflow", "transformers", "datasets", "scipy", "matplotlib"]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_imports_as_a_subpackage(room):
    module = importlib.import_module(f"querytier.{room}")
    assert module.__doc__


def test_data_files_are_installed():
    assert files("querytier").joinpath("py.typed").is_file()
    assert files("querytier.eval").joinpath("report.html.jinja").is_file()
    assert files("querytier.eval").joinpath("off_policy.html.jinja").is_file()
    assert files("querytier.serve.http").joinpath("page.html").is_file()


@pytest.mark.checkout
def test_raw_logs_are_not_installed_as_package_data(pyproject):
    tools = pyproject["tool"]["setuptools"]
    assert tools["include-package-data"] is False
    assert tools["package-data"] == {
        "querytier": ["py.typed"],
        "querytier.eval": ["*.jinja"],
        "querytier.serve.http": ["page.html"],
    }


@pytest.mark.checkout
@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_a_top_level_folder_with_a_link_in_src(room, pyproject):
    link = ROOT / "src" / "querytier" / room
    assert link.is_symlink(), f"the link {link} is lost; restore it: ln -s ../../{room} {link}"
    assert link.resolve() == ROOT / room
    assert pyproject["tool"]["setuptools"]["package-dir"][f"querytier.{room}"] == room


@pytest.mark.checkout
def test_every_package_of_the_tree_is_in_the_list_of_packages(pyproject):
    found = {"querytier"}
    for room in ROOMS:
        found |= {
            ".".join(["querytier", *init.parent.relative_to(ROOT).parts])
            for init in (ROOT / room).rglob("__init__.py")
        }
    assert found == set(pyproject["tool"]["setuptools"]["packages"])


def test_deciding_loads_no_heavy_package(artifact):
    program = (
        "import json, sys\n"
        "from querytier.serve import Router\n"
        f"decision = Router.load({str(artifact)!r}).decide('Where is my order?')\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps([decision.reason, heavy]))\n"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == ["classifier", []]


def test_all_names_what_every_module_offers():
    import querytier

    found = [info.name for info in pkgutil.walk_packages(querytier.__path__, "querytier.")]
    assert {f"querytier.{room}" for room in ROOMS} < set(found)
    for name in set(found) - {"querytier.__main__"}:
        module = importlib.import_module(name)
        assert all(hasattr(module, item) for item in getattr(module, "__all__", []))


@pytest.mark.checkout
def test_one_module_imports_mlflow():
    files = [file for room in [*ROOMS, "src"] for file in (ROOT / room).rglob("*.py")]
    importing = re.compile(r"^\s*(import|from) mlflow\b", re.MULTILINE)
    assert [file.name for file in files if importing.search(file.read_text())] == ["store.py"]


@pytest.mark.checkout
def test_params_yaml_states_the_defaults():
    from querytier.pipeline.params import Params, read_params

    assert read_params(ROOT / "params.yaml") == Params()
    assert yaml.safe_load((ROOT / "params.yaml").read_text()) == Params().model_dump(mode="json")


@pytest.mark.checkout
def test_every_dvc_stage_is_one_verb_and_depends_on_its_section():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == ["prepare", "train", "export", "evaluate"]
    for name, stage in stages.items():
        assert stage["cmd"] == f"querytier {name} --params params.yaml --out artifacts"
        assert stage["params"] == [name, *(["certify"] if name == "export" else [])]


@pytest.mark.checkout
def test_constraints_pin_every_declared_dependency(pyproject):
    text = "".join(path.read_text() for path in ROOT.glob("constraints*.txt"))
    pinned = {line.split("==")[0].lower() for line in text.splitlines() if "==" in line}
    project = pyproject["project"]
    declared = list(project["dependencies"])
    declared += [name for extra in project["optional-dependencies"].values() for name in extra]
    names = {re.split(r"[^A-Za-z0-9_-]", name)[0].lower() for name in declared}
    assert names <= pinned
    assert "://" not in text


@pytest.mark.checkout
def test_the_example_router_runs(artifact):
    command = [sys.executable, ROOT / "examples" / "route.py", artifact, "Where is my order?", ""]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = answer.stdout.splitlines()
    assert first.split("\t")[1:] == ["classifier", "Where is my order?"]
    assert second.split("\t") == ["frontier-model", "fallback:empty", ""]
