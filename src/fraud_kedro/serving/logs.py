"""The process's own log as lines of JSON."""

from __future__ import annotations

import logging

from pythonjsonlogger.json import JsonFormatter

# BentoML's filter puts its own `request_id` into every record, so ours has another name on the way.
REQUEST_ID_FIELD = "http_request_id"
_OF_THE_SERVER = (
    "levelname_bracketed",
    "component",
    "trace_msg",
    "request_id",
    "service_name",
    "color_message",
)


def write_json() -> None:
    """Give every handler there is a JSON formatter: time, level, logger, message and what a line adds."""
    formatter = JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp="time",
        rename_fields={"levelname": "level", "name": "logger", REQUEST_ID_FIELD: "request_id"},
        reserved_attrs=[*logging.makeLogRecord({}).__dict__, *_OF_THE_SERVER],
    )
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                handler.setFormatter(formatter)
