"""The graph: encoder, features, heads and calibration as one ONNX file that reads token ids."""

import warnings
from pathlib import Path

from querytier.classifier.features import Features
from querytier.classifier.head import Heads
from querytier.classifier.nodes import Nodes

__all__ = ["OPSET", "write_graph"]

OPSET = 18


def write_graph(features: Features, heads: Heads, path: Path) -> None:
    """Write `model.onnx`.

    Its input is `token_ids`, int64 of shape (batch, length), padded with 0 where rows differ in
    length; its outputs are `p_frontier`, float32 of shape (batch,), in [0, 1], `gain`, the same in
    [-1, 1], where it ranks queries, and `sentence_embedding`, float32 of shape (batch, dimension).

    Parameters
    ----------
    features : Features
    heads : Heads
    path : Path
    """
    import onnx

    _write_encoder(features, path)
    model = onnx.load(path)
    embedding = model.graph.output[0]
    nodes = Nodes()
    names = {features.name: "sentence_embedding", f"{features.name}-surface": "surface"}
    for kind, net in (("components", features.components), ("outputs", features.outputs)):
        if net is not None:
            names[f"{features.name}-{kind}"] = net.add_to(nodes, "sentence_embedding")
    if features.terms is not None:
        names[f"{features.name}-terms"] = features.terms.add_to(nodes, "token_ids")
    outputs = heads.add_to(nodes, names)
    del model.graph.output[:]
    nodes.append_to(model, outputs)
    model.graph.output.append(embedding)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _write_encoder(features: Features, path: Path) -> None:
    """Write the graph of what is traced: the sentence embedding, and surface features."""
    import torch

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = features.encoder.model
            self.surface = features.surface.module() if features.surface else None

        def forward(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mask = (token_ids != 0).long()
            inputs = {"input_ids": token_ids, "attention_mask": mask}
            embedding = self.encoder(inputs)["sentence_embedding"]
            return (embedding, self.surface(token_ids)) if self.surface else (embedding,)

    outputs = ["sentence_embedding", *(["surface"] if features.surface else [])]
    example = features.encoder.tokenizer.token_ids("an example of some length")
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, yet the only one whose graph was exact and small here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Traced().eval(),
            (torch.tensor([example]),),
            str(path),
            input_names=["token_ids"],
            output_names=outputs,
            dynamic_axes={
                "token_ids": {0: "batch", 1: "length"},
                **{name: {0: "batch"} for name in outputs},
            },
            opset_version=OPSET,
            dynamo=False,
        )
