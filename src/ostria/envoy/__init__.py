"""Envoy resources from mesh facts: pure, encoded once, each with its version and its origins."""
