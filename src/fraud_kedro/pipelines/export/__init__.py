"""Graphs, bundles, versions, the promotion gate."""
