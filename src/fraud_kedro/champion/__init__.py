"""The served model: its bundle, its registry, its scorer."""
