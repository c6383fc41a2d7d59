"""What other libraries have to be told before they are imported: to be quiet, and to wait politely.

Registered as a ``kedro.init`` entry point, which Kedro calls before it loads
any plugin. Only lines that are known and harmless are dropped.
"""

import logging
import os
from collections.abc import Callable

_HARMLESS = {
    "py.warnings": (
        # mlflow.pyfunc, at import, about its own base class.
        "Add type hints to the `predict` method",
        # Kedro and kedro-mlflow still register their resolvers by the old name.
        "register_new_resolver() is deprecated",
        # kedro-viz, about its own responses.
        "ORJSONResponse is deprecated",
        # `--pipeline` and `--pipelines` are the same; both stay documented.
        "Option '--pipeline' is deprecated",
    ),
    "kedro.runner.sequential_runner": (
        "Using synchronous mode",
        # It follows every error at the first node; the error itself says what to do.
        "No nodes ran",
    ),
}

_ENVIRONMENT = {
    # Threads that wait by spinning make LightGBM ten times slower where another process holds a core.
    # OpenMP reads it when the first library loads it, so it has to be set this early.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Or every new store announces its tables.
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "DO_NOT_TRACK": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


def silence_known_noise() -> None:
    """Drop known harmless messages, switch telemetry off, and set how threads wait."""
    logging.captureWarnings(True)
    for logger, texts in _HARMLESS.items():
        logging.getLogger(logger).addFilter(_without(texts))
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)


def _without(texts: tuple[str, ...]) -> Callable[[logging.LogRecord], bool]:
    def is_news(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in texts)

    return is_news
