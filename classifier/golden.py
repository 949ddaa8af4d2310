"""Golden vectors: queries with which an artifact, or a port to another language, proves itself.

They are written for this purpose. No text of a user's log goes into an artifact.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import tier_of
from querytier.data.text_view import text_view
from querytier.errors import ArtifactError

__all__ = ["Replay", "golden_queries", "replay_golden", "write_golden"]

_PLAIN = (
    "Hi",
    "?",
    "7",
    "Thanks, that is all for today!",
    "Where do I change the delivery address of an order that was already paid?",
    "Is the blue kettle back in stock?",
    "Please make this sentence friendlier: your ticket was closed because you did not answer.",
    "Turn these notes into three bullet points: budget approved, Lena leads, kick-off on Monday.",
    "Extract the invoice number: Invoice 2291-B, due 14 May, 310.20 EUR.",
    "What is 15% of 240?",
    "Convert 3.5 miles to kilometres.",
    "Name three vegetables that grow in the shade.",
    "Write a polite reminder for a library book.",
    "def total(xs):\n    return sum(x for x in xs if x)\n# add a docstring",
    "SELECT name FROM staff WHERE left_on IS NULL; what does it return?",
    "Our queue workers deadlock once a week under load. Two locks, three services. Where do I begin?",
    "Prove that the sum of two consecutive triangular numbers is a square.",
    "Design a rollout plan for moving 40 shops to a new till system without closing any of them.",
    "Weigh leasing against buying for a fleet of nine vans that drive 12,000 km a year each.",
    "Two contracts disagree on who pays for a recall. Which clause prevails, and what is the risk?",
    "If every second customer returns one of three items, what share of items comes back?",
    "Find the flaw: all our churned users had the app, so the app makes users churn.",
    "Plan a garden of 6 by 4 metres with crop rotation over four years.",
    "Explain the difference between a mutex and a semaphore to a new colleague.",
    "Rewrite in the passive voice: The committee rejected the plan.",
    "Wie kann ich mein Passwort zur\u00fccksetzen?",
    "\u00bfCu\u00e1nto tarda el env\u00edo a las islas?",
    "R\u00e9sume ce message en une phrase : la r\u00e9union est repouss\u00e9e \u00e0 jeudi, m\u00eame salle.",
    "\u0413\u0434\u0435 \u043c\u043e\u0439 \u0437\u0430\u043a\u0430\u0437?",
    "\u0643\u064a\u0641 \u0623\u0644\u063a\u064a \u0627\u0644\u0637\u0644\u0628\u061f",
    "\u05d0\u05d9\u05da \u05de\u05d7\u05d6\u05d9\u05e8\u05d9\u05dd \u05de\u05d5\u05e6\u05e8?",
    "\u8bf7\u628a\u8fd9\u53e5\u8bdd\u7ffb\u8bd1\u6210\u82f1\u6587\uff1a\u4f1a\u8bae\u6539\u5230\u5468\u56db\u3002",
    "\u6ce8\u6587\u3092\u30ad\u30e3\u30f3\u30bb\u30eb\u3057\u305f\u3044\u3067\u3059\u3002",
    "\ubc30\uc1a1\uc740 \uc5b8\uc81c \uc624\ub098\uc694?",
    "\u092e\u0947\u0930\u093e \u0911\u0930\u094d\u0921\u0930 \u0915\u0939\u093e\u0901 \u0939\u0948?",
    "\U0001f680\U0001f680 ship it? \U0001f914",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 family plan, how many lines?",
    "Caf\u00e9 cafe\u0301 na\u00efve \u01c4\u0130\u0131\u00df",
    "tab\tnew\nline\r\nnull\x00bell\x07end",
    "zero\u200bwidth and \u202eturned\u202c text",
    "[CLS] ignore this [SEP] [MASK] </s> <|endoftext|>",
    "x" * 300,
    "a b " * 400,
)
_LONG = ("word " * 20_000, "\u8a9e" * 100_000, "z" * 100_000)
_EMPTY = ("", " \n\t ", "\u200b", "<system>only rules here</system>")


def golden_queries() -> Iterator[str]:
    """Yield more than 200 queries: plain ones, their variants, very long ones and empty ones."""
    for query in _PLAIN:
        yield query
        yield query.upper()
        yield f"<system-reminder>Answer in one line.</system-reminder>\n{query}"
        yield f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n"
        yield f"Context before. <user_query>{query}</user_query> Context after."
    yield from _LONG
    yield from _EMPTY


def write_golden(classifier: Classifier, path: Path) -> None:
    """Write `golden.jsonl`, one vector a line.

    Parameters
    ----------
    classifier : Classifier
    path : Path
        Gets objects with `query`, `view`, `token_ids`, `p_frontier`, `decision_score` and `tier`; of
        a query that is empty to the classifier, the last four are `[]`, null twice and the fallback
        tier.
    """
    lines = (json.dumps(_vector(classifier, query)) for query in golden_queries())
    path.write_text("\n".join(lines) + "\n")


@dataclass(frozen=True, slots=True)
class Replay:
    """How an artifact answered its golden vectors.

    Attributes
    ----------
    vectors : int
    max_difference : float
        Of p_frontier and the decision score, from those in the file.
    beyond : int
        Vectors that differ by more than `Tolerance.difference`.
    """

    vectors: int
    max_difference: float
    beyond: int


def replay_golden(classifier: Classifier, path: Path) -> Replay:
    """Ask the golden queries again.

    Views and token ids must be the same, scores within the manifest's tolerance, and tiers the same
    wherever the score lies further from the threshold than that.

    Raises
    ------
    ArtifactError
        If they are not, with the first query that shows it; or if `path` holds no golden vectors.
    """
    tolerance = classifier.manifest.tolerance
    vectors = _read_vectors(path)
    differences = [_difference(classifier, vector) for vector in vectors]
    if not tolerance.allows(differences):
        worst = max(range(len(vectors)), key=differences.__getitem__)
        raise ArtifactError(
            f"{path}: scores lie up to {max(differences):.2g} from the golden ones, more than "
            f"{tolerance} allows, at {vectors[worst]['query'][:100]!r}; ONNX Runtime or the "
            "processor compute another thing here: export the artifact on this machine, or with "
            "export.precision fp32"
        )
    beyond = sum(difference > tolerance.difference for difference in differences)
    return Replay(len(vectors), max(differences), beyond)


def _read_vectors(path: Path) -> list[dict[str, Any]]:
    try:
        vectors = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} holds no golden vectors: {error}") from error
    if not vectors:
        raise ArtifactError(f"{path} holds no golden vectors; copy the artifact from its source")
    return vectors


def _difference(classifier: Classifier, golden: Mapping[str, Any]) -> float:
    """Return how far an answer's scores lie from a golden vector; 0 where there are none."""
    found = _vector(classifier, golden["query"])
    apart = [0.0]
    if golden["p_frontier"] is not None and found["p_frontier"] is not None:
        apart = [abs(found[name] - golden[name]) for name in ("p_frontier", "decision_score")]
    exact = ["view", "token_ids"]
    if golden["decision_score"] is None or not _near_threshold(classifier, golden):
        exact.append("tier")
    for name in exact:
        if found[name] != golden[name]:
            raise ArtifactError(
                f"the query {golden['query'][:100]!r} has {name} {str(found[name])[:100]!r}, its "
                f"golden vector {str(golden[name])[:100]!r}: this querytier, or a library under "
                "it, reads queries in another way than the one that exported the artifact"
            )
    return max(apart) if all(map(math.isfinite, apart)) else math.inf


def _near_threshold(classifier: Classifier, golden: Mapping[str, Any]) -> bool:
    manifest = classifier.manifest
    distance: float = abs(golden["decision_score"] - manifest.threshold)
    return distance <= manifest.tolerance.largest


def _vector(classifier: Classifier, query: str) -> dict[str, Any]:
    manifest, view = classifier.manifest, text_view(query)
    vector: dict[str, Any] = {"query": query, "view": view}
    if not view:
        return {
            **vector,
            "token_ids": [],
            "p_frontier": None,
            "decision_score": None,
            "tier": manifest.fallback_tier,
        }
    scores = classifier.scores(view)
    return {
        **vector,
        "token_ids": classifier.token_ids(view),
        "p_frontier": scores.p_frontier,
        "decision_score": scores.decision_score,
        "tier": tier_of(scores.decision_score, manifest.threshold),
    }
