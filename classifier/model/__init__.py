"""The fitted classifier: in numpy and PyTorch, and the same computation as ONNX nodes.

Read in the order of the computation: `encoder` (text to embedding; `words` is the tokenisation of
static encoders), the other blocks of `features` (`surface`, `terms`), `nets` (learners), `head`
(the mean of learners), `calibrator`, and `typicality`, which is computed next to them. Each part of
the graph has an `add_to`, which writes it as nodes (`onnx_nodes`).
"""
