"""The model card: the README.md of an artifact."""

from querytier.classifier.manifest import Manifest

__all__ = ["model_card"]

_INPUT = {
    "text": "the text view itself, as `text`",
    "token_ids": "the `token_ids` of the text view (by `tokenizer.json`; of more than {}, the first and last half)",
}


def model_card(manifest: Manifest) -> str:
    """Return the model card of an artifact as Markdown."""
    data, metrics, rule = manifest.data, manifest.metrics, manifest.label_rule
    counts = data["splits"] if "splits" in data else data["roles"]  # as 0.1.0 called them
    splits = ", ".join(f"{split} {count}" for split, count in counts.items() if count)
    sources = ", ".join(f"{name} ({count})" for name, count in data["label_sources"].items())
    area = metrics["cross_validated_auroc"]
    blocks = ", ".join(manifest.encoder["blocks"])
    return f"""# querytier classifier {manifest.model_version}

Decides, before any LLM is called, whether a query needs the frontier model or the cheap one is
enough.

| | |
|---|---|
| decision | frontier if {manifest.decision_score} >= {manifest.threshold:.6f}, else cheap |
| threshold | {_chosen(manifest)} |
| tier if it cannot decide | {manifest.fallback_tier} |
| certificate | {manifest.certificate.status}: {manifest.certificate.reason} |
| encoder | {manifest.encoder["name"]}, {manifest.precision}, first and last tokens up to {manifest.max_tokens} |
| features | {blocks} |
| head | {metrics["chosen"]}, {metrics["calibration"]} calibration on the rows of: {metrics["calibration_rows"]} |
| label | {", ".join(rule["rules"])} (an answer succeeds with a score of at least {rule["ok_threshold"]:g}); labels from: {sources} |
| data | {data["source"]}: {splits}; share that needs the frontier model: {data["needs_frontier"]:.1%} |
| cross-validated AUROC, training rows | {area["value"]:.3f} ({area["low"]:.3f} to {area["high"]:.3f}) |
| text view | version {manifest.text_view.version} |
| created | {manifest.created} |

## Use

```python
from querytier.serve import Router

router = Router.load("path/to/this/folder")
router.decide("a query").tier
```

Other languages: feed `model.onnx` {_INPUT[manifest.input].format(manifest.max_tokens)}, read
`{manifest.decision_score}`, compare it with the threshold. `golden.jsonl` contains queries with
their views, ids and scores to check a port against; `querytier artifact verify` replays them.

## Limits

It knows the traffic and the pair of models that it was trained on. Another pair, or other traffic,
needs new labels. If the labels are annotations instead of outcomes, it predicts the annotators. The
report of its run shows cost and quality on held-out rows.
"""


def _chosen(manifest: Manifest) -> str:
    """Return how the threshold was chosen."""
    certificate, rate = manifest.certificate, manifest.metrics["target_frontier_rate"]
    coverage = certificate.details.get("coverage")
    if certificate.status == "granted" and coverage is not None:
        return f"certified; sends {coverage:.0%} of the certification rows to the cheap tier"
    return f"sends {rate:.0%} of the calibration rows to the frontier tier"
