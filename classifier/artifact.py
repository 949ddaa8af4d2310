"""The artifact: one folder, loaded only if every byte is as it was at export."""

import hashlib
from pathlib import Path

from querytier.classifier.graph_file import check_graph
from querytier.classifier.manifest import Manifest, load_manifest
from querytier.errors import ArtifactError

__all__ = [
    "CARD",
    "GOLDEN",
    "MANIFEST",
    "MODEL",
    "TOKENIZER",
    "artifact_files",
    "file_sha256",
    "verified_manifest",
]

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.jsonl"
CARD = "README.md"
# A manifest has a few kilobytes; a larger file of this name is not read whole.
_MOST_MANIFEST_BYTES = 1 << 20


def artifact_files(reads: str) -> tuple[str, ...]:
    """Return the files of an artifact besides its manifest, if its graph reads `reads`."""
    return (MODEL, *([TOKENIZER] if reads == "token_ids" else []), GOLDEN, CARD)


def verified_manifest(folder: Path) -> Manifest:
    """Return the manifest of an artifact after checking every file against it.

    Raises
    ------
    ArtifactError
        If the folder is not an artifact, a file is missing or was changed, or the graph contains
        something that `querytier.classifier.graph_file.check_graph` refuses.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            manifest = load_manifest(file.read(_MOST_MANIFEST_BYTES).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{folder} is not a querytier artifact: {MANIFEST} cannot be read ({error}); "
            "give the folder that `querytier run` or `querytier export` wrote"
        ) from error
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from error
    for name in artifact_files(manifest.input):
        _check_file(folder / name, manifest.files.get(name))
    check_graph(folder / MODEL)
    return manifest


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path, expected: str | None) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; copy the artifact again from its source")
    actual = file_sha256(path)
    if actual != expected:
        raise ArtifactError(
            f"{path} has sha256 {actual[:12]}..., its manifest says {str(expected)[:12]}...: it "
            "was changed or damaged after the export; copy the artifact again from its source"
        )
