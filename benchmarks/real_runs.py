"""Run querytier on real outcomes, and write the tables of RESULTS.md and README.md.

The outcome files are in the folder QUERYTIER_OUTCOMES, by default ../shared/data.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sections import write_section

from querytier.data.splits import SPLITS
from querytier.eval.report.table import COLUMNS, columns_with_values, table_cells

ROOT = Path(__file__).parents[1]
OUTCOMES = Path(os.environ.get("QUERYTIER_OUTCOMES", ROOT.parent / "shared" / "data"))
SCORES = "query=query,cheap_score=weak_score,frontier_score=strong_score,group=meta.group,id=id"
RUNS = {
    "routellm_gsm8k": f"$QUERYTIER_OUTCOMES/routellm_gsm8k.jsonl.gz --map {SCORES}",
    "routellm_mmlu": (
        f"$QUERYTIER_OUTCOMES/routellm_mmlu.jsonl.gz --map {SCORES},domain=meta.subject"
    ),
    "llmrouter_mix": f"$QUERYTIER_OUTCOMES/llmrouter_mix.jsonl.gz --map {SCORES},domain=domain",
    "llmdrift": f"$QUERYTIER_OUTCOMES/llmdrift.jsonl.gz --map {SCORES},domain=domain",
    "seed": "data/seed/seed.jsonl",
}
TITLES = {
    "routellm_gsm8k": "GSM8K, mixtral-8x7b against gpt-4-1106 (real outcomes)",
    "routellm_mmlu": "MMLU, mixtral-8x7b against gpt-4-1106 (real outcomes)",
    "llmrouter_mix": "mix of 14 tasks, mistral-7b against nemotron-51b (real outcomes)",
    "llmdrift": "primes and happy numbers, gpt-3.5 against gpt-4 of June 2023 (real outcomes)",
    "seed": "Seed log (annotations by rubric, no outcomes)",
}
PREFACE = """Written by `QUERYTIER_OUTCOMES=../shared/data make bench-real`, on {date},
{cores} cores, Python {python}.

All rows of a table use the same held-out rows (the test split: a fifth of the groups, by hash) and
the classifier's frontier rate. In brackets the 95% interval, bootstrap over groups. "Lead" is the
classifier's value minus the row's, paired. Latencies are from one noisy machine.
"""
README_ROWS = {
    "classifier": "classifier",
    "keyword_heuristic": "keyword heuristic",
    "length": "length",
    "tfidf_lr": "TF-IDF",
    "knn": "nearest neighbours",
    "domain_prior": "domain mean",
}


def main() -> int:
    """Run every set, and write the sections of both files."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in RUNS.items():
            results[name] = run(arguments, Path(folder, name))
    write_section(ROOT / "benchmarks" / "RESULTS.md", "bench-real", results_page(results))
    write_section(ROOT / "README.md", "bench-real", readme_table(results))
    return 0


def run(arguments: str, out: Path) -> dict[str, Any]:
    """Run one set from the command line; return its metrics."""
    command = f"{sys.executable} -m querytier run {arguments} --out {out}"
    environment = {**os.environ, "QUERYTIER_OUTCOMES": str(OUTCOMES)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    subprocess.run(command, shell=True, check=True, cwd=ROOT, env=environment)  # noqa: S602
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text("utf-8"))
    return metrics


def results_page(results: dict[str, dict[str, Any]]) -> str:
    """Return the section of RESULTS.md."""
    page = PREFACE.format(
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        cores=os.cpu_count(),
        python=platform.python_version(),
    )
    parts = [page]
    for name, metrics in results.items():
        parts += [
            f"## {TITLES[name]}\n",
            f"```\nquerytier run {RUNS[name]} --out runs/{name}\n```\n",
            facts(metrics),
            markdown_table(metrics, tuple(COLUMNS)),
        ]
    return "\n".join(parts)


def readme_table(results: dict[str, dict[str, Any]]) -> str:
    """Return the one table of README.md: a line per set, APGR or else AUROC."""
    lines = ["| held-out rows | metric | " + " | ".join(README_ROWS.values()) + " |"]
    lines += ["|---|---|" + "---:|" * len(README_ROWS)]
    for name, metrics in results.items():
        (key, *_) = columns_with_values(metrics, ("apgr", "auroc"))
        rows = {row["name"]: row for row in metrics["rows"]}
        texts = [table_cells(rows[row], [key])[0] for row in README_ROWS]
        title = f"{TITLES[name]} ({metrics['n']['evaluated']:,})"
        lines += [f"| {title} | {COLUMNS[key]} | " + " | ".join(texts) + " |"]
    return "\n".join(lines)


def facts(metrics: dict[str, Any]) -> str:
    """Return the lines above a table."""
    n, shares, latency = metrics["n"], metrics["labels"]["shares"], metrics["latency_ms"]
    splits = ", ".join(f"{split} {n[split]}" for split in SPLITS)
    strata = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    published = metrics["keyword_heuristic_as_published"]
    retained = published["quality_retained"]
    gate = "passed" if metrics["gate"]["passed"] else "failed"
    kept = "" if retained is None else f" and retains {retained:.3f} of the quality"
    return (
        f"- {n['usable']} of {n['rows']} rows usable; {splits}\n"
        f"- {strata}\n"
        f"{mean_scores(metrics)}"
        f"- chosen {metrics['model']['chosen']}; frontier rate on the test split "
        f"{metrics['operating_point']['frontier_rate']:.1%} "
        f"(target: {metrics['operating_point']['target_frontier_rate']:.0%})\n"
        f"- ECE of the classifier {metrics['rows'][0]['ece']:.3f}; perfectly calibrated, the same "
        f"probabilities stay below {metrics['ece_when_calibrated_95']:.3f} in 95% of draws\n"
        f"- the keyword heuristic at its published threshold sends "
        f"{published['frontier_rate']:.1%} to the frontier tier{kept}\n"
        f"- certificate {metrics['certificate']['status']}: {metrics['certificate']['reason']}\n"
        f"- gate {gate}: {metrics['gate']['reason']}\n"
        f"- time of a decision: p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, "
        f"p99 {latency['p99']:.1f} ms; graph and fitted classifier differ by at most "
        f"{metrics['model']['parity_max_difference']:.1e}\n"
    )


def mean_scores(metrics: dict[str, Any]) -> str:
    """Return the mean scores of both tiers, and why there is no APGR; empty without scores."""
    means = [f"{name} {one['value']:.3f}" for name, one in metrics["mean_scores"].items()]
    reason = metrics["rows"][0]["apgr"].get("reason")
    facts = {"mean score": ", ".join(means), "no APGR": reason} if means else {}
    return "".join(f"- {name}: {text}\n" for name, text in facts.items() if text)


def markdown_table(metrics: dict[str, Any], keys: tuple[str, ...]) -> str:
    """Return the rows as a Markdown table, without empty columns."""
    rows = metrics["rows"]
    columns = columns_with_values(metrics, keys)
    lines = ["| row | " + " | ".join(COLUMNS[column] for column in columns) + " |"]
    lines += ["|---|" + "---:|" * len(columns)]
    for row in rows:
        texts = table_cells(row, columns)
        lines += [f"| {row['name']} | " + " | ".join(texts) + " |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
