"""The model, the artifact format, and the in-path runtime."""
