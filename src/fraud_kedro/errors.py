"""Errors a user can mend: each message says what, where and the way out.

The command line prints any of these as one line and exits with 1; every other
exception is a defect of the project and keeps its traceback.
"""


class FraudKedroError(Exception):
    """Base of every error that is the interface's, not a defect."""


class SchemaError(FraudKedroError):
    """The roles in ``schema`` do not fit the table."""


class ParameterError(FraudKedroError):
    """A parameter on the command line is none of the environment's."""


class DataError(FraudKedroError):
    """The rows cannot be used as they are."""


class MissingInputError(FraudKedroError):
    """A pipeline needs what no earlier run has written."""


class TrainingError(FraudKedroError):
    """A model cannot be tuned, fitted or calibrated."""


class ParityError(FraudKedroError):
    """An exported graph does not score as its native model does."""


class BundleError(FraudKedroError):
    """A bundle is missing, damaged, tampered with or of another format."""


class RegistryError(FraudKedroError):
    """The model registry cannot be reached or does not hold what was asked."""


class PredictionLogError(FraudKedroError):
    """The prediction log cannot be opened, written or read."""


class DriftError(FraudKedroError):
    """Drift cannot be judged, or its report cannot be kept."""


class ExplanationError(FraudKedroError):
    """The reasons of a score cannot be given from its graph."""
