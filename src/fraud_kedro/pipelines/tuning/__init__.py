"""The search for each algorithm's parameters."""
