"""The service: HTTP and BentoML in front of one scorer and one log."""
