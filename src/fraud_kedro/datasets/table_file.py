"""A table of transactions in files, read lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from glob import has_magic
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import polars as pl
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from fraud_kedro.datasets.first_rows import first_rows
from fraud_kedro.errors import DataError, MissingInputError
from fraud_kedro.validation.unreadable import first_line

_CSV, _PARQUET = ("csv", "tsv", "txt"), ("parquet", "pq")
_COMPRESSED = ("gz", "zst")
_SCHEMES = ("s3://", "s3a://", "gs://", "az://", "abfss://", "https://", "http://", "hf://")


class TableFileDataset(AbstractDataset[None, pl.LazyFrame]):
    """Transactions in a CSV or Parquet file, a folder or pattern of parts, or at an URL.

    Loading reads the header alone; rows are read when they are asked for, in
    streams, so the table may be larger than the memory. The columns of a CSV come
    as text: the validator parses them and can then say which line is wrong.

    Parameters
    ----------
    filepath : str
        A file (``.csv``, ``.csv.gz``, ``.parquet``), a folder or pattern of
        Parquet parts, or an URL such as ``s3://bucket/transactions/*.parquet``.
    load_args : dict, optional
        Options of `polars.scan_csv` or `polars.scan_parquet`, such as
        ``separator``.
    credentials : dict, optional
        For an URL: polars' storage options, such as ``aws_access_key_id``. By
        default what the environment holds (``AWS_...``).
    metadata : dict, optional
        Ignored by Kedro, read by plugins.

    Raises
    ------
    MissingInputError
        On load, if there is no file.
    DataError
        On load, if the format is unknown or the parts are not one table.

    Examples
    --------
    ```yaml
    raw_transactions:
      type: fraud_kedro.datasets.table_file.TableFileDataset
      filepath: data/01_raw/transactions/*.parquet
    ```
    """

    def __init__(
        self,
        *,
        filepath: str,
        load_args: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._load_args = load_args or {}
        self._credentials = credentials
        self.metadata = metadata

    @property
    def _remote(self) -> bool:
        return self._filepath.startswith(_SCHEMES)

    @property
    def _shown(self) -> str:
        return without_secrets(self._filepath)

    def load(self) -> pl.LazyFrame:
        """Return the table, not yet read."""
        if self._remote:
            source: str | list[Path] = self._filepath
        else:
            source = self._files()
        scan = self._scan_csv if self._format() == "csv" else self._scan_parquet
        try:
            table = scan(source)
        except TypeError as error:
            raise DatasetError(f"load_args of {self._shown}: {error}") from error
        if isinstance(source, list) and (len(source) > 1 or scan == self._scan_parquet):
            _require_one_table(source, scan, ordered=scan == self._scan_csv)
        return table

    def _scan_csv(self, source: str | Path | list[Path]) -> pl.LazyFrame:
        return pl.scan_csv(source, infer_schema=False, storage_options=self._credentials, **self._load_args)

    def _scan_parquet(self, source: str | Path | list[Path]) -> pl.LazyFrame:
        return pl.scan_parquet(source, storage_options=self._credentials, **self._load_args)

    def save(self, data: None) -> NoReturn:
        """Refuse.

        Raises
        ------
        DatasetError
            Always: the table is the user's.
        """
        raise DatasetError("A table of transactions is only read. Save to an entry of another type.")

    def preview(self, nrows: int = 5) -> TablePreview:
        """Return the first rows, for kedro-viz."""
        return first_rows(self.load(), nrows)

    def _files(self) -> list[Path]:
        path = Path(self._filepath)
        if has_magic(self._filepath):
            files = sorted(_matches(path))
        elif path.is_dir():
            # Writers leave marks such as _SUCCESS beside the parts.
            files = sorted(p for p in path.rglob("*") if p.suffix[1:] in _PARQUET and p.name[0] not in "._")
        else:
            files = [path] if path.exists() else []
        if not files:
            what = "is a folder that holds no Parquet part" if path.is_dir() else "not found"
            raise MissingInputError(
                f"{self._filepath} {what}: put the table there, or name another file in the catalog "
                "(`raw_transactions`)."
            )
        return files

    def _format(self) -> str:
        path = Path(self._filepath.split("?", 1)[0].rstrip("/"))
        suffixes = [suffix[1:].lower() for suffix in path.suffixes]
        if not self._remote and path.is_dir():
            return "parquet"
        if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED:
            suffixes.pop()
        suffix = suffixes[-1] if suffixes else ""
        if suffix in _CSV:
            return "csv"
        if suffix in _PARQUET or not suffix or "*" in suffix:
            return "parquet"
        raise DataError(
            f"{self._shown}: .{suffix} is not a format that is read. It should be one of: "
            f"{', '.join(f'.{known}' for known in (*_CSV, *_PARQUET))} (text also as .gz or .zst)."
        )

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shown, "load_args": self._load_args}

    def _exists(self) -> bool:
        # An URL is known to be wrong when it is read, with the store's own words.
        if self._remote:
            return True
        path = Path(self._filepath)
        return any(True for _ in _matches(path)) if has_magic(self._filepath) else path.exists()


def _matches(pattern: Path) -> Iterator[Path]:
    """Files of a pattern, from the last folder that is named without one."""
    fixed = next(parent for parent in pattern.parents if not has_magic(str(parent)))
    return fixed.glob(str(pattern.relative_to(fixed)))


def without_secrets(location: str) -> str:
    """A path or URL without user, password and the query, which may be a signature."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _require_one_table(files: list[Path], scan: Callable[[Path], pl.LazyFrame], ordered: bool) -> None:
    """Parts of one table have the same columns and types; those of a CSV also in one order."""
    first: dict[str, pl.DataType] | None = None
    for file in files:
        try:
            types = dict(scan(file).collect_schema())
        except (pl.exceptions.PolarsError, OSError) as error:
            form = "Parquet" if file.suffix[1:].lower() not in _CSV else "CSV"
            raise DataError(
                f"{file} cannot be read as {form}: {first_line(error)}. Copy or write it again."
            ) from error
        first = first or types
        if types == first and (list(types) == list(first) or not ordered):
            continue
        if types == first:
            raise DataError(
                f"{file} has the columns of {files[0].name} in another order. "
                "Write the parts with one header."
            )
        differences = [
            f"{column!r} is {types.get(column, 'missing')}, not {first.get(column, 'there')}"
            for column in sorted(first.keys() | types.keys())
            if types.get(column) != first.get(column)
        ]
        raise DataError(
            f"{file} is not a part of the same table as {files[0].name}: {'; '.join(differences[:10])}. "
            "Write the parts with one schema."
        )
