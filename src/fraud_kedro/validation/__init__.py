"""Every value of an incoming table is checked before anything is learned from it."""
