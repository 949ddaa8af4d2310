"""Sealing: the steps from a graph and a manifest to an artifact, in the one order that works."""

from dataclasses import replace
from pathlib import Path

from querytier.classifier.artifact import CARD, GOLDEN, MANIFEST, artifact_files, file_sha256
from querytier.classifier.export.model_card import model_card
from querytier.classifier.golden import replay_golden, write_golden
from querytier.classifier.manifest import Manifest, dump_manifest
from querytier.classifier.runtime import Classifier

__all__ = ["seal"]


def seal(folder: Path, classifier: Classifier) -> Manifest:
    """Add golden vectors, model card and manifest to a graph, then load and replay the result.

    Parameters
    ----------
    folder : Path
        Contains the final `model.onnx` and, if it reads token ids, `tokenizer.json`.
    classifier : Classifier
        The same graph, with the final manifest; its `files` are filled in here.

    Returns
    -------
    Manifest
        As written.

    Raises
    ------
    ArtifactError
        If the folder does not load, or its scores are not those of `classifier`.
    """
    manifest = classifier.manifest
    write_golden(classifier, folder / GOLDEN)
    (folder / CARD).write_text(model_card(manifest), "utf-8")
    files = {name: file_sha256(folder / name) for name in artifact_files(manifest.input)}
    manifest = replace(manifest, files=files)
    (folder / MANIFEST).write_text(dump_manifest(manifest), "utf-8")
    # A router will do the same. Here a failure still leaves the previous artifact in place.
    replay_golden(Classifier.load(folder), folder / GOLDEN)
    return manifest
