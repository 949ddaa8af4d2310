"""The graph: encoder, features, heads and calibrator as one ONNX file."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from querytier.classifier.model.features import Features
from querytier.classifier.model.head import Heads
from querytier.classifier.model.onnx_nodes import Nodes
from querytier.classifier.model.typicality import Typicality
from querytier.classifier.model.words import add_words, cuts_words

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["OPSET", "trace", "write_graph"]

OPSET = 18


def trace(features: Features, path: Path) -> None:
    """Write the graph of the encoder, to which `write_graph` adds the rest.

    Its input is `token_ids`, int64 of shape (batch, length), shorter rows padded with 0. Outputs
    are `sentence_embedding`, float32 of shape (batch, dimension), and `surface` if the features
    have that block.

    Parameters
    ----------
    features : Features
    path : Path
    """
    import torch

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = features.encoder.model
            self.surface = features.surface.module() if features.surface else None

        def forward(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
            # The mask follows from the ids, so that a port feeds one tensor.
            mask = (token_ids != 0).long()
            inputs = {"input_ids": token_ids, "attention_mask": mask}
            embedding = self.encoder(inputs)["sentence_embedding"]
            return (embedding, self.surface(token_ids)) if self.surface else (embedding,)

    outputs = ["sentence_embedding", *(["surface"] if features.surface else [])]
    example = features.encoder.tokenizer.token_ids("an example of some length")
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but its graph is exact (1.8e-7 from PyTorch); that of
        # `dynamo=True` is not a valid model with an output of this name.
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


def write_graph(
    traced: Path,
    features: Features,
    heads: Heads,
    path: Path,
    typicality: Typicality | None = None,
) -> None:
    """Write `model.onnx`.

    Its outputs are `p_frontier`, float32 of shape (batch,), in [0, 1]; `gain`, in [-1, 1], if
    `gain` ranks queries; `typicality`, in (0, 1], if it is given; and `sentence_embedding`, float32
    of shape (batch, dimension). Its input is `token_ids`, as in `trace`. For a static encoder it is
    `text`, text views of shape (batch,), and `token_ids` is an output.

    Parameters
    ----------
    traced : Path
        Written by `trace`.
    features : Features
    heads : Heads
    path : Path
    typicality : Typicality, optional
    """
    import onnx

    model = onnx.load(traced)
    embedding = model.graph.output[0]
    nodes = Nodes("head")
    names = {features.name: "sentence_embedding", f"{features.name}-surface": "surface"}
    for kind, net in (("components", features.components), ("outputs", features.outputs)):
        if net is not None:
            names[f"{features.name}-{kind}"] = net.add_to(nodes, "sentence_embedding")
    if features.terms is not None:
        names[f"{features.name}-terms"] = features.terms.add_to(nodes, "token_ids")
    outputs = heads.add_to(nodes, names)
    if typicality is not None:
        outputs["typicality"] = typicality.add_to(nodes, "sentence_embedding")
    del model.graph.output[:]
    nodes.append_to(model, outputs)
    model.graph.output.append(embedding)
    if cuts_words(features.encoder.tokenizer_json):
        _read_text(model, features)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _read_text(model: "ModelProto", features: Features) -> None:
    """Make a model read text instead of token ids, with its vocabulary inside."""
    from onnx import TensorProto, helper

    nodes = Nodes("words")
    token_ids = add_words(nodes, "text", features.encoder.tokenizer_json)
    nodes.put_before(model, token_ids, "token_ids")
    model.graph.output.append(model.graph.input.pop())
    model.graph.input.append(helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"]))
