"""The graph: encoder, pooling, head and calibration as one ONNX file that reads token ids."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from querytier.classifier.encoder import Encoder
from querytier.classifier.head import LinearHead

__all__ = ["OPSET", "write_graph"]

OPSET = 18


def write_graph(encoder: Encoder, head: LinearHead, path: Path) -> None:
    """Write `model.onnx`.

    Its input is `token_ids`, int64 of shape (batch, length), padded with 0 where rows differ in
    length; its outputs are `p_frontier`, float32 of shape (batch,), in [0, 1], and
    `sentence_embedding`, float32 of shape (batch, dimension).

    Parameters
    ----------
    encoder : Encoder
    head : LinearHead
        Calibration included: the graph computes sigmoid(embedding @ coefficients + intercept).
    path : Path
    """
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder.model
            self.head = torch.nn.Linear(len(head.coefficients), 1)
            self.head.weight = _parameter(head.coefficients[np.newaxis, :])
            self.head.bias = _parameter(np.array([head.intercept]))

        def forward(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            mask = (token_ids != 0).long()
            features = {"input_ids": token_ids, "attention_mask": mask}
            embedding = self.encoder(features)["sentence_embedding"]
            return torch.sigmoid(self.head(embedding)).squeeze(1), embedding

    def _parameter(values: NDArray[np.float64]) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.tensor(values, dtype=torch.float32))

    with warnings.catch_warnings():
        # The tracing exporter is deprecated, yet the only one whose graph was exact and small here.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (torch.tensor([encoder.tokenizer.token_ids("an example of some length")]),),
            str(path),
            input_names=["token_ids"],
            output_names=["p_frontier", "sentence_embedding"],
            dynamic_axes={
                "token_ids": {0: "batch", 1: "length"},
                "p_frontier": {0: "batch"},
                "sentence_embedding": {0: "batch"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
