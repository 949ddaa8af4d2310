"""The graph: encoder, pooling, head and calibration as one ONNX file that reads token ids."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.features import Features
from querytier.classifier.head import Heads

__all__ = ["OPSET", "write_graph"]

OPSET = 18


def write_graph(features: Features, heads: Heads, path: Path) -> None:
    """Write `model.onnx`.

    Its input is `token_ids`, int64 of shape (batch, length), padded with 0 where rows differ in
    length; its outputs are `p_frontier`, float32 of shape (batch,), in [0, 1], `gain`, the same in
    [-1, 1], where there is a head for it, and `sentence_embedding`, float32 of shape
    (batch, dimension).

    Parameters
    ----------
    features : Features
    heads : Heads
    path : Path
    """
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = features.encoder.model
            self.surface = features.surface.module() if features.surface else None
            need, gain = heads.need, heads.gain
            self.need = _linear(need.coefficients[np.newaxis, :], np.array([need.intercept]))
            self.gain = _linear(gain.coefficients, gain.intercepts) if gain else None

        def forward(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mask = (token_ids != 0).long()
            inputs = {"input_ids": token_ids, "attention_mask": mask}
            embedding = read = self.encoder(inputs)["sentence_embedding"]
            if self.surface is not None:
                read = torch.cat([embedding, self.surface(token_ids)], dim=1)
            p_frontier = torch.sigmoid(self.need(read)).squeeze(1)
            if self.gain is None:
                return p_frontier, embedding
            outcomes = torch.softmax(self.gain(read), dim=1)
            return p_frontier, outcomes[:, 2] - outcomes[:, 0], embedding

    def _linear(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> torch.nn.Linear:
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float32))
        layer.bias = torch.nn.Parameter(torch.tensor(bias, dtype=torch.float32))
        return layer

    tokenizer = features.encoder.tokenizer
    outputs = ["p_frontier", *(["gain"] if heads.gain else []), "sentence_embedding"]
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, yet the only one whose graph was exact and small here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (torch.tensor([tokenizer.token_ids("an example of some length")]),),
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
