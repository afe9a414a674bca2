"""The keys that admit edges, read at the start and again on SIGHUP."""

from __future__ import annotations

from collections.abc import Callable

from gradfec_cloud.metrics import CloudMetrics
from gradfec_common.errors import GradfecError
from gradfec_common.keys import INSECURE_WARNING
from gradfec_common.session.greeter import Keys
from gradfec_host.logs import Log


class Keyring:
    """Holds the keys that are in force."""

    def __init__(self, read: Callable[[], Keys], metrics: CloudMetrics, log: Log) -> None:
        """Read the keys; GradfecError if they cannot be read."""
        self.keys = read()
        self._read, self._metrics, self._log = read, metrics, log

    @property
    def insecure(self) -> bool:
        """Whether one of the keys is the public one of --insecure, which admits everybody."""
        return any(key.insecure for key in self.keys.values())

    @property
    def of_edges(self) -> bool:
        """Whether there are keys of single edges."""
        return any(key.label for key in self.keys.values())

    def read_again(self) -> bool:
        """Read the keys again and return True. If they cannot be read, keep the old ones and return False."""
        try:
            self.keys = self._read()
        except GradfecError as error:
            self._metrics.keys_read(well=False)
            self._log.error(f"{error}; the keys stay as they were", event="keys_unread")
            return False
        self._metrics.keys_read(well=True)
        number = f"{len(self.keys)} {'key' if len(self.keys) == 1 else 'keys'}"
        self._log.info(f"read again: {number}", event="keys_read", key_ids=[key.hex() for key in self.keys])
        self.warn_if_insecure()
        return True

    def warn_if_insecure(self) -> None:
        """Log a warning if everybody is admitted."""
        if self.insecure:
            self._log.warning(INSECURE_WARNING, event="insecure")
