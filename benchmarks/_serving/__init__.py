"""What `benchmarks/serving.py` starts, and the load it sends."""
