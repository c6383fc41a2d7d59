"""What `benchmarks/serving.py` starts and measures."""
