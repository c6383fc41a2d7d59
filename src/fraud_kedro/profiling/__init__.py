"""What a table holds: each column by class, missing values, duplicates, the label rate over time."""
