"""Plugins for gateways: classes that a gateway loads by name and calls itself.

`litellm` is the classifier plugin of LiteLLM. Gateways that call the service over HTTP or gRPC need
none; see `querytier.serve.http` and the examples.
"""
