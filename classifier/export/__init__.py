"""From a fitted classifier to an artifact; a gate that fails stops it before anything is written.

`exporting` is the sequence: trace the encoder (`onnx_graph`), choose its precision (`precision`,
by `quantisation` and `flips`), add the heads, compare graph and fit (`parity`), then seal the
folder (`sealing`, with `model_card`). `certify_artifact` writes a certificate into an artifact and
seals it again.
"""
