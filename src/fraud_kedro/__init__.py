"""Real-time card-fraud detection: trained with Kedro, served with BentoML."""

__version__ = "0.1.0"
