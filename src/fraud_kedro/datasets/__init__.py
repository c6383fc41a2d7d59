"""Kedro datasets of the project's own."""
