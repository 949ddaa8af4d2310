"""label_audit."""
