"""HTTP as uvicorn speaks it, with bounds on a request's headers, which it has none of: they are read before it is known who asks."""

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BYTES, SECONDS = 65_536, 10.0  # of a request's headers


class Bounded(HttpToolsProtocol):
    """Closes a connection whose headers are too large, or do not come in time."""

    _due: TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Expect the first request's headers."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Read on; of headers that are not complete yet, no more than is allowed."""
        super().data_received(data)
        if self._due is not None:
            self._came += len(data)
            if self._came > BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Expect the headers of another request on the same connection."""
        super().on_message_begin()
        if self._due is None:
            self._expect()

    def on_headers_complete(self) -> None:
        """Expect headers no more."""
        self._settle()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._settle()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._came = 0
        self._due = self.loop.call_later(SECONDS, self._close)

    def _settle(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _close(self, *_: Any) -> None:
        if not self.transport.is_closing():
            self.transport.close()
