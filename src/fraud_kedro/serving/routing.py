"""Which model answers a transaction: the champion, or the challenger for its share."""

from __future__ import annotations

import hashlib

_BITS = 64
# Another use of the same ids, such as a sample, should not pick the same transactions.
_SALT = b"challenger"


def is_challenged(transaction_id: str, share: float) -> bool:
    """Whether the challenger answers a transaction.

    The same for an id in every process and at any time; a larger share has all ids
    of a smaller one.

    Parameters
    ----------
    transaction_id : str
    share : float
        Of all ids, from 0 to 1.

    Examples
    --------
    >>> [is_challenged(f"t-{number}", 0.5) for number in range(4)]
    [False, True, False, True]
    """
    if share <= 0:
        return False
    digest = hashlib.blake2b(transaction_id.encode(), digest_size=_BITS // 8, key=_SALT).digest()
    return bool(int.from_bytes(digest, "big") < share * 2.0**_BITS)
