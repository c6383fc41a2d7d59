"""Algorithms: search space, fit and ONNX twin, one file each. Find them with `registry.get_algorithm`."""
