"""The folder mapping, the import contract, the wheel, and what a router loads."""

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path

import grimp
import pytest
import yaml

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "classifier", "training", "eval", "serve"]
PARTS = ["cli", "pipeline", "loop", "tracking"]
HEAVY = ["torch", "sklearn", "pandas", "mlflow", "transformers", "datasets", "scipy", "matplotlib"]


def product_files():
    """Return all Python files of the product; the links in `src` are left out."""
    found = [path for room in [*ROOMS, "src"] for path in (ROOT / room).rglob("*.py")]
    return [path for path in found if not any(part.is_symlink() for part in path.parents)]


@pytest.fixture(scope="module")
def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_imports_as_a_subpackage(room):
    module = importlib.import_module(f"querytier.{room}")
    assert module.__doc__


def test_data_files_are_installed():
    assert files("querytier").joinpath("py.typed").is_file()
    assert files("querytier.eval.report").joinpath("templates/report.html.jinja").is_file()
    assert files("querytier.eval.report").joinpath("templates/off_policy.html.jinja").is_file()
    assert files("querytier.serve.http").joinpath("page.html").is_file()


@pytest.mark.checkout
def test_raw_logs_are_not_installed_as_package_data(pyproject):
    tools = pyproject["tool"]["setuptools"]
    assert tools["include-package-data"] is False
    assert tools["package-data"] == {
        "querytier": ["py.typed"],
        "querytier.eval.report": ["templates/*.jinja"],
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
    found = {
        ".".join(["querytier", *init.parent.relative_to(base).parts])
        for base, folders in ((ROOT, ROOMS), (ROOT / "src" / "querytier", PARTS))
        for folder in folders
        for init in (base / folder).rglob("__init__.py")
    }
    assert found | {"querytier"} == set(pyproject["tool"]["setuptools"]["packages"])


@pytest.mark.checkout
def test_no_folder_has_more_than_18_modules():
    counts = Counter(path.parent for path in product_files() if path.name != "__init__.py")
    assert max(counts.values()) <= 18, counts.most_common(3)


@pytest.mark.checkout
def test_every_folder_says_what_it_is_for():
    for path in product_files():
        if path.name == "__init__.py":
            docstring = ast.get_docstring(ast.parse(path.read_text()))
            assert docstring, path


@pytest.mark.checkout
def test_neither_files_nor_folders_import_in_a_circle():
    graph = grimp.build_graph("querytier")
    files = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}

    def folder(name):
        parent = name.rpartition(".")[0]
        return name if graph.find_children(name) or parent == "querytier" else parent

    folders = {}
    for name, imported in files.items():
        others = {folder(one) for one in imported} - {folder(name)}
        folders.setdefault(folder(name), set()).update(others)
    for edges in (files, folders):
        TopologicalSorter(edges).prepare()  # raises CycleError and names the circle


@pytest.mark.checkout
def test_the_import_contract_is_short(pyproject):
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    rows = {one["name"]: len(one["layers"]) for one in contracts if "layers" in one}
    assert rows.pop("the house") <= 12
    assert set(rows) == set(ROOMS)
    assert max(rows.values()) <= 6
    (wall,) = [one for one in contracts if one["type"] == "forbidden"]
    loaded = {
        f"querytier.{room}.{path.stem}"
        for room in ("serve", "classifier")
        for path in (ROOT / room).glob("*.py")
        if path.stem != "__init__"
    }
    assert set(wall["source_modules"]) == loaded | {"querytier.data.text_view"}


@pytest.mark.checkout
def test_every_test_name_has_less_than_70_characters():
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {name for name in names if len(name) >= 70} == set()


def test_a_router_loads_at_most_22_modules():
    program = "import sys; from querytier.serve import Router; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name for name in answer.stdout.split() if name.split(".")[0] == "querytier"}
    assert len(loaded) <= 22, sorted(loaded)


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


def loaded_by(graph, module):
    """Return every module that a module may load: lazy imports and parent packages count."""
    loaded, waiting = {module}, [module]
    while waiting:
        name = waiting.pop()
        parents = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        new = (parents | graph.find_modules_directly_imported_by(name)) - loaded
        loaded |= new
        waiting += new
    return loaded


@pytest.mark.checkout
def test_every_dvc_stage_depends_on_all_code_that_it_runs(monkeypatch):
    """A stage whose code changed must not count as up to date, or `make demo` shows old results.

    The root package itself holds no code of a stage, and is left out.
    """
    grimp = pytest.importorskip("grimp")
    monkeypatch.syspath_prepend(ROOT / "src")
    graph = grimp.build_graph("querytier", cache_dir=None, exclude_type_checking_imports=True)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        parts = {
            module.split(".")[1]
            for module in loaded_by(graph, f"querytier.pipeline.{name}") - {"querytier"}
        }
        places = {part: ROOT / "src" / "querytier" / part for part in {*parts, "cli"}}
        needed = {
            (place.resolve() if place.is_dir() else place.with_suffix(".py")).relative_to(ROOT)
            for place in places.values()
        }
        code = {Path(dep) for dep in stage["deps"] if not dep.startswith("artifacts/")}
        assert code == needed, name


@pytest.mark.checkout
def test_code_in_dvc_deps_is_named_by_folder():
    """Only the modules of the root package have no folder of their own."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for dep in {dep for stage in stages.values() for dep in stage["deps"]}:
        path = ROOT / dep
        assert dep.startswith("artifacts/") or path.is_dir() or path.parent.name == "querytier"
        assert dep.startswith("artifacts/") or path.exists()


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
