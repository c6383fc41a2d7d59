"""Where events go: lines of JSON, or a running service."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO
from urllib.parse import urlsplit

from fraud_kedro.errors import FraudKedroError
from fraud_kedro.simulation.events import Event, LabelEvent, TransactionEvent

TIMEOUT_SECONDS = 60
_SHOWN_CHARACTERS = 300


class DeliveryError(FraudKedroError):
    """Events cannot be delivered."""


class Destination(Protocol):
    """Takes events in order."""

    def write(self, event: Event) -> None:
        """Take one event; it may wait for others."""

    def flush(self) -> None:
        """Deliver what waits."""


class JsonLines:
    """Writes one JSON object a line.

    Parameters
    ----------
    file : text file
        Stays open.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

    def write(self, event: Event) -> None:
        """Write one event."""
        self._file.write(self._encode(as_json(event)) + "\n")

    def flush(self) -> None:
        """Hand what is buffered to the reader."""
        self._file.flush()


def as_json(event: Event) -> dict[str, Any]:
    """Turn an event into what a line of JSON holds."""
    shared = {
        "transaction_id": event.transaction_id,
        "event_time": event.event_time.isoformat().replace("+00:00", "Z"),
    }
    if isinstance(event, TransactionEvent):
        return {"type": "transaction", **shared, "features": event.features}
    return {"type": "label", **shared, "label": event.label}


class Service:
    """Posts transactions to be scored, and labels as feedback.

    Parameters
    ----------
    url : str
        Of the service, such as ``http://127.0.0.1:8000``.
    batch : int
        With 1 each transaction is a request to ``/predict``; else up to so many
        go to ``/predict/batch`` together.

    Raises
    ------
    DeliveryError
        If the URL is none.

    Notes
    -----
    Labels wait with the transactions and are sent after them, so the service
    knows every transaction it gets a label for.
    """

    def __init__(self, url: str, *, batch: int = 1) -> None:
        if batch < 1:
            raise DeliveryError(f"A batch of {batch} transactions is none: it should hold 1 or more.")
        self._url = url.rstrip("/")
        self._batch = batch
        self._transactions: list[TransactionEvent] = []
        self._labels: list[LabelEvent] = []
        self._connection, self._path = _connection(self._url)

    def write(self, event: Event) -> None:
        """Take an event; a full batch is sent."""
        if isinstance(event, TransactionEvent):
            self._transactions.append(event)
        else:
            self._labels.append(event)
        if max(len(self._transactions), len(self._labels)) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Send what waits: transactions, then labels.

        Raises
        ------
        DeliveryError
            If the service cannot be reached or does not accept everything.
        """
        transactions, labels = self._transactions, self._labels
        self._transactions, self._labels = [], []
        if transactions:
            self._send(transactions)
        if labels:
            reported = [{"transaction_id": e.transaction_id, "label": e.label} for e in labels]
            self._post("/feedback", {"labels": reported})

    def answers(self, transactions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Send transactions at once, and give what is answered to each.

        Parameters
        ----------
        transactions : sequence of mapping
            The features and the ``transaction_id`` of each.

        Raises
        ------
        DeliveryError
            If the service cannot be reached or does not accept everything.
        """
        answer = self._post("/predict/batch", {"transactions": transactions})
        if answer.get("errors"):
            raise DeliveryError(
                f"{self._url}/predict/batch refused {len(answer['errors'])} of {len(transactions)} "
                f"transactions; the first: {_shortened(answer['errors'][0])}"
            )
        return list(answer.get("predictions", ()))

    def report(self, labels: Mapping[str, int]) -> None:
        """Send labels by the ids of their transactions.

        Raises
        ------
        DeliveryError
            If the service cannot be reached or does not accept them.
        """
        reported = [{"transaction_id": name, "label": label} for name, label in labels.items()]
        self._post("/feedback", {"labels": reported})

    def close(self) -> None:
        """End the connection; what still waits is dropped."""
        self._connection.close()

    def _send(self, transactions: Sequence[TransactionEvent]) -> None:
        rows = [{**event.features, "transaction_id": event.transaction_id} for event in transactions]
        if self._batch == 1:
            self._post("/predict", rows[0])
            return
        self.answers(rows)

    def _post(self, route: str, body: Any) -> dict[str, Any]:
        content = json.dumps(body).encode()
        try:
            status, text = self._request(route, content)
        except (OSError, http.client.HTTPException) as error:
            raise DeliveryError(
                f"No service answers at {self._url} ({type(error).__name__}: {error}): start it with "
                "`bentoml serve`, or give the URL it listens at."
            ) from error
        if status == http.HTTPStatus.NOT_FOUND:
            way_out = "; `--labels none` streams transactions alone" if route == "/feedback" else ""
            raise DeliveryError(
                f"{self._url}{route} answers 404: the service there has no such route{way_out}."
            )
        if not http.HTTPStatus.OK <= status < http.HTTPStatus.MULTIPLE_CHOICES:
            raise DeliveryError(f"{self._url}{route} answers {status}: {_shortened(text)}")
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise DeliveryError(
                f"{self._url}{route} answers {status} with what is no JSON: is it the service?"
            ) from error
        return answer if isinstance(answer, dict) else {}

    def _request(self, route: str, content: bytes) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request("POST", self._path + route, content, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A connection that was kept open has been closed by the server. With their ids, transactions
            # are scored once however often they are sent.
            self._connection.close()
            self._connection.request("POST", self._path + route, content, headers)
            response = self._connection.getresponse()
        return response.status, response.read().decode(errors="replace")


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DeliveryError(f"{url!r} is no URL: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise DeliveryError(f"{url!r} should be the URL of a service, such as http://127.0.0.1:8000.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname, port, timeout=TIMEOUT_SECONDS), parts.path


def _shortened(detail: object) -> str:
    text = " ".join((detail if isinstance(detail, str) else json.dumps(detail)).split())
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."
