"""ASGI middleware of the studio: host and origin checks, route allow-list, size and rate limits."""

import dataclasses
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# -------- Limits per request and for the studio as a whole

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits; a request above one of them is refused with an error message.

    Attributes:
      audio_bytes, image_bytes, video_bytes: size of one upload by kind.
      audio_seconds: length of a speech recording.
      video_seconds: length of a training video.
      image_pixels: width times height of a background picture.
      message_bytes: body of any other request (controls and events, no files).
      max_waiting: renders that may wait in the queue behind the running one.
      cached_persons: persons whose networks stay in memory.
      folder_bytes: total size of the private folder.
      keep_seconds: age at which uploads and results are deleted.
      preview_seconds: length of the landmark preview and of a comparison.
      stream_seconds: lifetime of a stream's address.
    """

    audio_bytes: int = 64 * MIB
    image_bytes: int = 16 * MIB
    video_bytes: int = 2048 * MIB
    audio_seconds: float = 600.0
    video_seconds: float = 1800.0
    image_pixels: int = 40_000_000
    message_bytes: int = 1 * MIB
    max_waiting: int = 8
    cached_persons: int = 2
    folder_bytes: int = 8192 * MIB
    keep_seconds: int = 4 * 3600
    preview_seconds: float = 6.0
    stream_seconds: float = 600.0


# -------- Request filter: checks of Host and Origin, allow-list of routes, limits of the body
#
# Gradio's server offers far more than this page uses (a proxy, downloads by URL, redirects, an editor), hence the allow-list. A page of
# another site can make a browser send requests here (cross-site request forgery, DNS rebinding), but can't choose their Host and Origin.

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ALLOWED_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static|svelte)/[\w./@-]+|/health|/stream/[0-9a-f]{32}|/api/(people|stream)"
    r"|/gradio_api/(upload|upload_progress|queue/join|queue/data|run/predict|cancel|reset/?|startup-events|info/?|theme\.css)"
    r"|/gradio_api/heartbeat/\w+|/gradio_api/file=.+"
)
UPLOADS = {"/gradio_api/upload": "video_bytes", "/api/stream": "audio_bytes"}
"""Route -> field of `Limits` for its body; every other body is limited by `message_bytes`."""

HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; media-src 'self' blob: data:; font-src 'self' data:; connect-src 'self' data: blob:; "
    b"worker-src 'self' blob:; frame-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
}
"""Sent with every response; the policy also keeps the page from loading anything from another machine."""


class RequestFilter:
    """ASGI middleware.

    Args:
      app: the ASGI app behind the filter.
      hosts: accepted host names and addresses, without ports.
      limits: of request bodies.
      free_bytes: bytes that may still be stored; called before every upload.
      folder: the private folder, the only one whose files a message may name.
    """

    def __init__(self, app: Any, hosts: Collection[str], limits: Limits, free_bytes: Callable[[], int], folder: Path):
        self._app, self._hosts, self._limits, self._free_bytes = app, {host.lower() for host in hosts}, limits, free_bytes
        self._folder = folder.resolve()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # the page needs no web sockets
            return await send({"type": "websocket.close", "code": 1008})
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = scope["path"]
        refusal = self._refusal(scope["method"], path, headers)
        if refusal:
            return await _respond(send, *refusal)
        limit = getattr(self._limits, UPLOADS.get(path, "message_bytes"))
        if path in UPLOADS and self._free_bytes() < int(headers.get(b"content-length") or 0):
            return await _respond(send, 507, "The studio's disk space is used up: try again later.")
        if path in UPLOADS:
            return await self._upload(scope, receive, send, limit)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            data = await _read(receive, limit)
            if data is None:
                return await _respond(send, 413, f"The message is larger than the limit of {limit // MIB} MiB.")
            if not _names_only_files_in(data, self._folder):
                return await _respond(send, 400, "The message names a file that was not uploaded: send files with the upload field.")
            receive = _replay(data, receive)
        await self._app(scope, receive, _with_headers(send))

    async def _upload(self, scope: Message, receive: Receive, send: Send, limit: int) -> None:
        """Passes an upload on without buffering it; a body beyond the limit is answered with 413, whatever the app responds."""
        body, answered = _LimitedBody(receive, limit), False

        async def sender(message: Message) -> None:
            nonlocal answered
            if not body.too_large or answered:
                answered = True
                await send(message)

        try:
            await self._app(scope, body, _with_headers(sender))
        except Exception:
            if not body.too_large:
                raise
        if body.too_large and not answered:
            await _respond(send, 413, f"The upload is larger than the limit of {limit // MIB} MiB.")

    def _refusal(self, method: str, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        if not self._is_own_origin(f"http://{headers.get(b'host', '')}"):
            return 421, "The studio does not accept this host name: use the address it printed, or start it with --host or --allow-host."
        if b"origin" in headers and not (
            self._is_own_origin(headers[b"origin"]) and urlsplit(headers[b"origin"]).netloc == headers[b"host"]
        ):
            return 403, "Pages of other sites may not use this studio: open the address it printed."
        if method not in ("GET", "HEAD", "POST") or not ALLOWED_ROUTES.fullmatch(path):
            return 404, "There is nothing at this address."
        if path.startswith("/gradio_api/file=") and (".." in unquote(path).split("/") or "://" in unquote(path).replace(":/", "://")):
            return 404, "There is nothing at this address."
        length = headers.get(b"content-length", "0")
        limit = getattr(self._limits, UPLOADS.get(path, "message_bytes"))
        if not length.isdigit() or int(length) > limit:
            return 413, f"The request is larger than the limit of {limit // MIB} MiB."
        return None

    def _is_own_origin(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and (parts.hostname or "").lower() in self._hosts
        except ValueError:
            return False


class TooLarge(Exception):
    """A body is longer than its limit."""


class _LimitedBody:
    """Passes a body on and raises at the limit, whatever length the header announced."""

    def __init__(self, receive: Receive, limit: int):
        self._receive, self._remaining = receive, limit
        self.too_large = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._remaining -= len(message.get("body", b""))
        if self._remaining < 0:
            self.too_large = True
            raise TooLarge
        return message


async def _read(receive: Receive, limit: int) -> bytes | None:
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return data
        data += message.get("body", b"")
        if len(data) > limit:
            return None
        if not message.get("more_body"):
            return data


def _replay(data: bytes, receive: Receive) -> Receive:
    """Receives the buffered body again, then what the client sends next (its disconnect)."""
    sent = False

    async def replayed() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": data, "more_body": False}

    return replayed


def _names_only_files_in(data: bytes, folder: Path) -> bool:
    """Whether every file that a message names lies in the folder.

    Without this check Gradio would fetch a URL, or copy a file below the working or temporary folder to where the page can read it.
    """
    try:
        message = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return False
    pending = [message]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(path := value.get("path"), str) and not _is_inside(path, folder):
                return False
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return True


def _is_inside(path: str, folder: Path) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a null byte, a name that is too long, a loop of links
        return False


async def _respond(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers + list(HEADERS.items())})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS.items()]}
        await send(message)

    return sender


def host_names(host: str, others: Collection[str] = ()) -> set[str]:
    """Host names that a studio listening on `host` accepts: the address, `others`, and the local names for a loopback address."""
    names = {host.strip("[]"), *others}
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return names
    if address.is_loopback or address.is_unspecified:
        names |= {"localhost", "127.0.0.1", "::1"}
    return names
