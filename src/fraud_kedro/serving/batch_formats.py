"""The formats of batches: how a request says what it sends and what it wants back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fraud_kedro.serving.batch import BatchError
from fraud_kedro.serving.requests import FieldError

PARQUET_MAGIC = b"PAR1"

_ANYTHING = "application/octet-stream"
# Windows calls CSV files so where Excel is installed.
_OF_EXCEL = "application/vnd.ms-excel"


class Format(StrEnum):
    """A format of tables: the end of its files' names."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


MEDIA_TYPES = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
}
_KNOWN = {
    **{media_type: kind for kind, media_type in MEDIA_TYPES.items()},
    "application/x-parquet": Format.PARQUET,
    "application/parquet": Format.PARQUET,
    "application/csv": Format.CSV,
}


@dataclass(frozen=True)
class Described:
    """A media type with its parameters, in lower case."""

    media_type: str
    parameters: dict[str, str]


def described(header: str) -> Described:
    """Read a Content-Type, or one member of Accept."""
    media_type, *rest = header.split(";")
    pairs = (part.partition("=") for part in rest)
    return Described(
        media_type.strip().lower(),
        {name.strip().lower(): value.strip().strip('"').lower() for name, _, value in pairs},
    )


def format_sent(content_type: str, start: bytes, file_name: str | None = None) -> Format:
    """Tell the format of a body.

    Parameters
    ----------
    content_type : str
        Of the body, or of the file in an upload.
    start : bytes
        At least the first four bytes.
    file_name : str, optional
        Counts where the type says nothing.

    Raises
    ------
    BatchError
        415 if it is none that is read.
    """
    given = described(content_type)
    kind = _KNOWN.get(given.media_type)
    if kind is None and given.media_type in ("", _ANYTHING, _OF_EXCEL):
        if start.startswith(PARQUET_MAGIC):
            return Format.PARQUET
        ending = (file_name or "").rpartition(".")[2].lower()
        kind = next((known for known in (Format.CSV, Format.JSON) if ending == known), None)
    if kind is None:
        raise _unsupported(
            f"Send {', '.join(MEDIA_TYPES.values())}, or such a file as the field `file` of "
            "multipart/form-data."
        )
    if kind is Format.CSV:
        charset = given.parameters.get("charset", "utf-8")
        if charset not in ("utf-8", "utf8", "us-ascii"):
            raise _unsupported(f"CSV is read as UTF-8, not as {charset[:40]}.")
        if given.parameters.get("header") == "absent":
            raise _unsupported("CSV is read with a header that names the columns.")
    return kind


def format_wanted(accept: str | None, sent: Format) -> tuple[Format, str]:
    """Choose the format of the answer (RFC 9110, 12.5.1).

    Parameters
    ----------
    accept : str or None
        The header.
    sent : Format
        The request's, which the answer has unless another is preferred.

    Returns
    -------
    Format
    str
        Its media type, by the name asked for.

    Raises
    ------
    BatchError
        406 if none will do.
    """
    if accept is None or not accept.strip():
        return sent, MEDIA_TYPES[sent]
    ranges = [described(part) for part in accept.split(",") if part.strip()]
    best: tuple[float, bool, Format, str] | None = None
    for name, kind in _KNOWN.items():
        quality = _quality(name, ranges)
        usual = name == MEDIA_TYPES[kind]
        # A name that is not the usual one is used only if it is asked for by itself.
        if quality <= 0 or not (usual or any(given.media_type == name for given in ranges)):
            continue
        candidate = (quality, kind is sent, kind, name)
        if best is None or candidate[:2] > best[:2]:
            best = candidate
    if best is None:
        raise BatchError(
            406,
            [
                FieldError(
                    "not_acceptable", ("header", "accept"), f"answers are {', '.join(MEDIA_TYPES.values())}"
                )
            ],
        )
    return best[2], best[3]


def _quality(name: str, ranges: list[Described]) -> float:
    """The quality of the most specific range that a type lies in, 0 for none."""
    best = (-1, 0.0)
    for given in ranges:
        if given.media_type == name:
            rank = 2
        elif given.media_type == f"{name.partition('/')[0]}/*":
            rank = 1
        elif given.media_type == "*/*":
            rank = 0
        else:
            continue
        try:
            quality = float(given.parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        best = max(best, (rank, quality))
    return best[1]


def _unsupported(message: str) -> BatchError:
    return BatchError(415, [FieldError("media_type", ("header", "content-type"), message)])
