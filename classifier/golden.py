"""Golden vectors: queries and their scores, to check an artifact or a port to another language.

The queries are written for this purpose: an artifact contains no text of a user's log.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from querytier.classifier.runtime import Classifier
from querytier.classifier.threshold import tier_of
from querytier.data.parallel import map_threads
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
        # Wrapped as by harnesses and chat templates; the text view has to remove the wrappers.
        yield query
        yield query.upper()
        yield f"<system-reminder>Answer in one line.</system-reminder>\n{query}"
        yield f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{query}<|im_end|>\n"
        yield f"Context before. <user_query>{query}</user_query> Context after."
    # Latency has a ceiling whatever arrives: views are cut by characters, then by tokens.
    yield from _LONG
    yield from _EMPTY


def write_golden(classifier: Classifier, path: Path) -> None:
    """Write `golden.jsonl`, one vector per line.

    Parameters
    ----------
    classifier : Classifier
    path : Path
        Each line is an object with `query`, `view`, `token_ids`, `p_frontier`, `decision_score` and
        `tier`. For a query whose view is empty, the last four are `[]`, null, null and the fallback
        tier.
    """
    vectors = map_threads(partial(_vector, classifier), list(golden_queries()))
    path.write_text("".join(json.dumps(vector) + "\n" for vector in vectors))


@dataclass(frozen=True, slots=True)
class Replay:
    """How an artifact reproduced its golden vectors.

    Attributes
    ----------
    vectors : int
    max_difference : float
        Largest difference in p_frontier and decision score from those in the file.
    beyond : int
        Number of vectors that differ by more than `Tolerance.difference`.
    """

    vectors: int
    max_difference: float
    beyond: int


def replay_golden(classifier: Classifier, path: Path) -> Replay:
    """Compute the golden vectors again and compare them with the file.

    Views and token ids must be the same, scores within the manifest's tolerance, and tiers the same
    unless the score is closer to the threshold than that.

    Raises
    ------
    ArtifactError
        If they are not (the message has the first such query), or `path` has no golden vectors.
    """
    tolerance = classifier.manifest.tolerance
    golden = _read_vectors(path)
    differences = map_threads(partial(_difference, classifier), golden)
    if not tolerance.allows(differences):
        worst = max(range(len(golden)), key=differences.__getitem__)
        raise ArtifactError(
            f"{path}: scores differ from the golden ones by up to {max(differences):.2g}, more "
            f"than {tolerance} allows, at {golden[worst]['query'][:100]!r}; ONNX Runtime or the "
            "processor computes something else here: export the artifact on this machine, or with "
            "export.precision fp32"
        )
    beyond = sum(difference > tolerance.difference for difference in differences)
    return Replay(len(golden), max(differences), beyond)


def _read_vectors(path: Path) -> list[dict[str, Any]]:
    try:
        vectors = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} has no golden vectors: {error}") from error
    if not vectors:
        raise ArtifactError(f"{path} has no golden vectors; copy the artifact from its source")
    return vectors


def _difference(classifier: Classifier, golden: Mapping[str, Any]) -> float:
    """Return how far the scores of a golden query are from those in the file."""
    actual = _vector(classifier, golden["query"])
    exact = ["view", "token_ids"]
    manifest, score = classifier.manifest, golden["decision_score"]
    if score is None or not abs(score - manifest.threshold) <= manifest.tolerance.largest:
        exact.append("tier")
    for name in exact:
        if actual[name] != golden[name]:
            raise ArtifactError(
                f"the query {golden['query'][:100]!r} has {name} {str(actual[name])[:100]!r}, but "
                f"{str(golden[name])[:100]!r} in its golden vector: this querytier, or a library "
                "that it uses, reads queries differently from the one that exported the artifact"
            )
    if golden["p_frontier"] is None or actual["p_frontier"] is None:
        return 0.0
    apart = [abs(actual[name] - golden[name]) for name in ("p_frontier", "decision_score")]
    # Python's max() passes over a NaN that does not come first.
    return max(apart) if all(map(math.isfinite, apart)) else math.inf


def _vector(classifier: Classifier, query: str) -> dict[str, Any]:
    manifest, view = classifier.manifest, text_view(query)
    vector: dict[str, Any] = {
        "query": query,
        "view": view,
        "token_ids": [],
        "p_frontier": None,
        "decision_score": None,
        "tier": manifest.fallback_tier,
    }
    if view:
        scores = classifier.scores(view)
        vector["token_ids"] = classifier.token_ids(view)
        vector["p_frontier"], vector["decision_score"] = scores.p_frontier, scores.decision_score
        vector["tier"] = tier_of(scores.decision_score, manifest.threshold)
    return vector
