"""From a table to train, validation and test."""
