"""Sections of a Markdown file that a benchmark replaces, between two comments."""

from pathlib import Path

__all__ = ["write_section"]


def write_section(path: Path, name: str, text: str) -> None:
    """Replace the section `name` of a file; append it if there is none."""
    start, end = f"<!-- {name}: written by make {name} -->", f"<!-- end of {name} -->"
    page = path.read_text("utf-8")
    if start not in page:
        page = f"{page.rstrip()}\n\n{start}\n{end}\n"
    before, rest = page.split(start)
    after = rest.split(end)[1]
    path.write_text(f"{before}{start}\n{text.strip()}\n{end}{after}", "utf-8")
