"""Figures of the code: lines by room, the largest folder, what a router loads, contracts.

    python benchmarks/figures.py [ROOT]

A line of code is any line except blank lines, comments and docstrings. Prints
a Markdown table; `make figures` runs it on this checkout.
"""

import argparse
import ast
import subprocess
import sys
import tokenize
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOMS = ("src", "data", "classifier", "training", "eval", "serve")
LOADED = (
    "import sys; from querytier.serve import Router; "
    "print(sum(name.split('.')[0] == 'querytier' for name in sys.modules))"
)


@dataclass
class Count:
    """The number of lines of each kind in a set of Python files."""

    files: int = 0
    lines: int = 0
    code: int = 0
    comments: int = 0
    docstrings: int = 0
    functions: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Count a file."""
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        docstrings = docstring_lines(tree)
        comments = comment_lines(path)
        written = {number for number, line in enumerate(text.splitlines(), 1) if line.strip()}
        self.files += 1
        self.lines += len(text.splitlines())
        self.docstrings += len(docstrings)
        self.comments += len(comments)
        self.code += len(written - docstrings - comments)
        self.functions += [(length, f"{path}:{name}") for length, name in functions(tree)]


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of all lines that are part of a docstring."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            found |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def comment_lines(path: Path) -> set[int]:
    """Return the numbers of the lines that contain only a comment."""
    with path.open("rb") as file:
        comments = [
            token for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT
        ]
    return {one.start[0] for one in comments if one.line.strip().startswith("#")}


def functions(tree: ast.Module) -> list[tuple[int, str]]:
    """Return each function's length in lines, without its docstring, and its name."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                text = node.body[0]
                length -= (text.end_lineno or text.lineno) - text.lineno + 1
            found.append((length, node.name))
    return found


def product_files(root: Path) -> dict[str, list[Path]]:
    """Return the product's files by room; the links in `src` are left out."""
    found = {}
    for room in ROOMS:
        paths = sorted((root / room).rglob("*.py"))
        found[room] = [
            path for path in paths if not any(part.is_symlink() for part in path.parents)
        ]
    return found


def contract_rows(root: Path) -> dict[str, int]:
    """Return the number of layers in each import contract."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    return {one["name"]: len(one["layers"]) for one in contracts if "layers" in one}


def modules_loaded(root: Path) -> int:
    """Return how many modules of querytier `from querytier.serve import Router` loads."""
    command = [sys.executable, "-c", LOADED]
    path = {"PYTHONPATH": str(root.resolve() / "src")}
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=path)  # noqa: S603
    return int(answer.stdout)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, nargs="?", default=Path(__file__).parents[1])
    root = parser.parse_args().root
    rooms, total, folders = {}, Count(), Counter[str]()
    for room, paths in product_files(root).items():
        rooms[room] = Count()
        for path in paths:
            rooms[room].add(path)
            total.add(path)
            if path.name != "__init__.py":
                folders[str(path.parent.relative_to(root))] += 1
    print("| room | files | lines | code | comments | docstrings |\n|---|---:|---:|---:|---:|---:|")
    for room, count in [*rooms.items(), ("all", total)]:
        cells = (count.files, count.lines, count.code, count.comments, count.docstrings)
        print(f"| {room} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    folder, most = folders.most_common(1)[0]
    longest, name = max(total.functions)
    rows = ", ".join(f"{name} {count}" for name, count in contract_rows(root).items())
    print(f"\n- largest folder: {folder} with {most} modules of its own")
    print(f"- modules that `from querytier.serve import Router` loads: {modules_loaded(root)}")
    print(f"- rows of the import contracts: {rows}")
    print(f"- comment lines for 100 lines of code: {100 * total.comments / total.code:.1f}")
    print(f"- longest function: {longest} lines, {Path(name).name}")
    print(f"- functions above 50 lines: {sum(length > 50 for length, _ in total.functions)}")


if __name__ == "__main__":
    main()
