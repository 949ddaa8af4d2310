"""The model card: what an artifact's own README.md tells whoever finds it."""

from querytier.classifier.manifest import Manifest

__all__ = ["model_card"]

_FED = {
    "text": "the text view itself, as `text`",
    "token_ids": "the `token_ids` of the text view (by `tokenizer.json`, at most {}: the first and the last half)",
}


def model_card(manifest: Manifest) -> str:
    """Return the model card of an artifact as Markdown."""
    data, metrics, rule = manifest.data, manifest.metrics, manifest.label_rule
    counts = data["splits"] if "splits" in data else data["roles"]  # as 0.1.0 called them
    splits = ", ".join(f"{split} {count}" for split, count in counts.items() if count)
    sources = ", ".join(f"{name} ({count})" for name, count in data["label_sources"].items())
    area = metrics["cross_validated_auroc"]
    read = ", ".join(manifest.encoder["blocks"])
    return f"""# querytier classifier {manifest.model_version}

Decides for a query, before any LLM is called, whether it needs the frontier model or whether the
cheap one will do.

| | |
|---|---|
| decision | frontier where {manifest.decision_score} >= {manifest.threshold:.6f}, else cheap |
| threshold | {_chosen(manifest)} |
| when it cannot answer | {manifest.fallback_tier} |
| certificate | {manifest.certificate.status}: {manifest.certificate.reason} |
| encoder | {manifest.encoder["name"]}, {manifest.precision}, first and last tokens up to {manifest.max_tokens} |
| features | {read} |
| head | {metrics["chosen"]}, {metrics["calibration"]} calibration on the {metrics["calibration_rows"]} rows |
| label | {", ".join(rule["rules"])} (success is a score of at least {rule["ok_threshold"]:g}); labels from: {sources} |
| data | {data["source"]}: {splits}; share that needs the frontier model {data["needs_frontier"]:.1%} |
| cross-validated AUROC, training rows | {area["value"]:.3f} ({area["low"]:.3f} to {area["high"]:.3f}) |
| text view | version {manifest.text_view.version} |
| created | {manifest.created} |

## Use

```python
from querytier.serve import Router

router = Router.load("path/to/this/folder")
router.decide("a query").tier
```

Other languages: feed `model.onnx` {_FED[manifest.input].format(manifest.max_tokens)}, read
`{manifest.decision_score}`, compare it with the threshold. `golden.jsonl` holds queries with their
views, ids and probabilities to check a port against; `querytier artifact verify` replays them.

## Limits

It knows the traffic and the pair of models that it was trained on, and nothing else: another pair,
or another kind of traffic, needs new labels. Where labels are annotations instead of outcomes, it
predicts the annotators. Cost and quality on held-out rows stand in the report of its run.
"""


def _chosen(manifest: Manifest) -> str:
    """Say what the threshold was chosen by."""
    certificate, rate = manifest.certificate, manifest.metrics["target_frontier_rate"]
    coverage = certificate.details.get("coverage")
    if certificate.status == "granted" and coverage is not None:
        return f"certified; sends {coverage:.0%} of the certification rows to the cheap tier"
    return f"sends {rate:.0%} of the calibration rows to the frontier tier"
