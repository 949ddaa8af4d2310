"""Sealing: an artifact is complete, loads, and gives the scores of its classifier."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from querytier.classifier.artifact import GOLDEN, MANIFEST, MODEL, artifact_files
from querytier.classifier.export.certify_artifact import write_certificate
from querytier.classifier.export.sealing import seal
from querytier.classifier.golden import replay_golden
from querytier.classifier.manifest import Certificate
from querytier.classifier.runtime import Classifier
from querytier.errors import ArtifactError

ARTIFACT = Path(__file__).parents[2] / "fixtures" / "artifacts" / "format-2"


@pytest.fixture
def graph(tmp_path):
    """Return a folder that contains a graph and nothing else."""
    shutil.copy2(ARTIFACT / MODEL, tmp_path / MODEL)
    return tmp_path


def test_a_graph_and_a_manifest_become_an_artifact(graph):
    classifier = Classifier.load(ARTIFACT)
    manifest = seal(graph, classifier)
    assert sorted(path.name for path in graph.iterdir()) == sorted([MANIFEST, *manifest.files])
    assert set(manifest.files) == set(artifact_files(manifest.input))
    assert Classifier.load(graph).manifest == manifest
    assert replay_golden(Classifier.load(graph), graph / GOLDEN).max_difference == 0


def test_a_graph_with_other_scores_is_not_sealed(graph):
    """One of three copies of the sealing, the one for certificates, did not replay golden vectors.

    Replaying is right: only this proves that the folder gives the same decisions as the graph in
    memory.
    """
    classifier = Classifier.load(ARTIFACT)
    other = classifier.scores("Is the tram late?").p_frontier + 0.2

    class Wrong(Classifier):
        def scores(self, view, *, typicality=False):
            return replace(super().scores(view, typicality=typicality), p_frontier=other)

    wrong = Wrong(classifier.manifest, classifier.tokenizer, classifier.session)
    with pytest.raises(ArtifactError, match="scores differ from the golden ones"):
        seal(graph, wrong)


def test_a_certificate_moves_the_tiers_of_golden_vectors(tmp_path):
    folder = Path(shutil.copytree(ARTIFACT, tmp_path / "model"))
    before = Classifier.load(folder).manifest
    write_certificate(folder, Certificate("granted", "a test"), threshold=2.0)
    manifest = Classifier.load(folder).manifest
    assert (manifest.threshold, manifest.model_version) == (2.0, before.model_version)
    vectors = [json.loads(line) for line in (folder / GOLDEN).read_text().splitlines()]
    assert {vector["tier"] for vector in vectors if vector["view"]} == {"cheap"}
