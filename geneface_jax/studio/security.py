"""ASGI middleware of the studio: host and origin checks, route allow-list, size and rate limits."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# ----------------------------------------------------------------------------------------------------
# How much one visitor, and all of them together, may ask of the studio.

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is refused, politely, above these.

    Attributes:
      audio_bytes, image_bytes, video_bytes: size of one upload by kind.
      audio_seconds: length of a recording to be spoken.
      video_seconds: length of a video to train on.
      image_pixels: width times height of a background picture.
      message_bytes: any other request's body: controls and events, no files.
      waiting: renders that may wait for their turn while one is running.
      warm_people: people whose networks stay in memory.
      folder_bytes: everything in the private folder together.
      keep_seconds: after which uploads and results are deleted.
      preview_seconds: of the landmark preview, and of each half of a comparison.
      stream_seconds: how long the address of a stream can be used.
    """

    audio_bytes: int = 64 * MIB
    image_bytes: int = 16 * MIB
    video_bytes: int = 2048 * MIB
    audio_seconds: float = 600.0
    video_seconds: float = 1800.0
    image_pixels: int = 40_000_000
    message_bytes: int = 1 * MIB
    waiting: int = 8
    warm_people: int = 2
    folder_bytes: int = 8192 * MIB
    keep_seconds: int = 4 * 3600
    preview_seconds: float = 6.0
    stream_seconds: float = 600.0


# ----------------------------------------------------------------------------------------------------
# What stands between the network and the studio: who may ask, for what, and how much.
#
# Gradio's server offers far more than this page uses (a proxy, downloads by URL, redirects, an editor); only the addresses below get
# through. A page of another site can make a browser send requests here, but it can't choose their Host and Origin: those must be ours.

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

OPEN = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static|svelte)/[\w./@-]+|/health|/stream/[0-9a-f]{32}|/api/(people|stream)"
    r"|/gradio_api/(upload|upload_progress|queue/join|queue/data|run/predict|cancel|reset/?|startup-events|info/?|theme\.css)"
    r"|/gradio_api/heartbeat/\w+|/gradio_api/file=.+"
)
UPLOADS = {"/gradio_api/upload": "video_bytes", "/api/stream": "audio_bytes"}
"""Address -> the limit of its body; every other body is a message."""

HEADERS = {
    b"content-security-policy": b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data: blob:; media-src 'self' blob: data:; font-src 'self' data:; connect-src 'self' data: blob:; "
    b"worker-src 'self' blob:; frame-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
}
"""Sent with every answer; the policy also keeps the page from fetching anything from another machine."""


class RequestFilter:
    """ASGI middleware.

    Args:
      app: what is guarded.
      hosts: names and addresses, without ports, that the studio is called by.
      limits: of request bodies.
      room: bytes that may still be stored; asked before every upload.
      folder: the private folder, the only one whose files a message may name.
    """

    def __init__(self, app: Any, hosts: Collection[str], limits: Limits, room: Callable[[], int], folder: Path):
        self._app, self._hosts, self._limits, self._room = app, {host.lower() for host in hosts}, limits, room
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
            return await _answer(send, *refusal)
        most = getattr(self._limits, UPLOADS.get(path, "message_bytes"))
        if path in UPLOADS and self._room() < int(headers.get(b"content-length") or 0):
            return await _answer(send, 507, "the studio's disk space is used up; try again later")
        if path in UPLOADS:
            return await self._upload(scope, receive, send, most)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            data = await _read(receive, most)
            if data is None:
                return await _answer(send, 413, f"the message is larger than {most // MIB} MiB")
            if not _harmless(data, self._folder):
                return await _answer(send, 400, "files are sent with the upload field, and no other file is read")
            receive = _replay(data, receive)
        await self._app(scope, receive, _with_headers(send))

    async def _upload(self, scope: Message, receive: Receive, send: Send, most: int) -> None:
        """An upload, which is not read ahead. When it goes on beyond its limit, that is the answer, whatever the app makes of it."""
        body, answered = _Counted(receive, most), False

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
            await _answer(send, 413, f"the upload is larger than {most // MIB} MiB")

    def _refusal(self, method: str, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        if not self._is_ours(f"http://{headers.get(b'host', '')}"):
            return 421, "this studio is not called by that name; use the address it printed, or start it with --host"
        if b"origin" in headers and not self._is_ours(headers[b"origin"]):
            return 403, "another site's page may not use this studio"
        if b"origin" in headers and urlsplit(headers[b"origin"]).netloc != headers[b"host"]:
            return 403, "another site's page may not use this studio"
        if method not in ("GET", "HEAD", "POST") or not OPEN.fullmatch(path):
            return 404, "there is nothing at this address"
        if path.startswith("/gradio_api/file=") and (".." in unquote(path).split("/") or "://" in unquote(path).replace(":/", "://")):
            return 404, "there is nothing at this address"
        length = headers.get(b"content-length", "0")
        most = getattr(self._limits, UPLOADS.get(path, "message_bytes"))
        if not length.isdigit() or int(length) > most:
            return 413, f"the request is larger than {most // MIB} MiB"
        return None

    def _is_ours(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and (parts.hostname or "").lower() in self._hosts
        except ValueError:
            return False


class TooLarge(Exception):
    """A body went on beyond its limit."""


class _Counted:
    """Passes a body on, and stops it at its limit whatever length was announced."""

    def __init__(self, receive: Receive, most: int):
        self._receive, self._left = receive, most
        self.too_large = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.too_large = True
            raise TooLarge
        return message


async def _read(receive: Receive, most: int) -> bytes | None:
    data = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return data
        data += message.get("body", b"")
        if len(data) > most:
            return None
        if not message.get("more_body"):
            return data


def _replay(data: bytes, receive: Receive) -> Receive:
    """The body once more, then whatever the client does next (it hangs up)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": data, "more_body": False}

    return again


def _harmless(data: bytes, folder: Path) -> bool:
    """Whether every file that a message names lies in the private folder.

    Gradio would fetch a URL, and copies files from below the working or the temporary folder to where the page reads them.
    """
    try:
        message = json.loads(data or b"null")
    except (ValueError, RecursionError):
        return False
    todo = [message]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if isinstance(path := value.get("path"), str) and not _inside(path, folder):
                return False
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
    return True


def _inside(path: str, folder: Path) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a name with a zero byte, too long a name, a loop of links
        return False


async def _answer(send: Send, status: int, sentence: str) -> None:
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
    """What a studio that listens on `host` may be called: this machine's own names for a loopback address, else the address itself.

    Args:
      host: the address listened on.
      others: further names the user allows.
    """
    names = {host.strip("[]"), *others}
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return names
    if address.is_loopback or address.is_unspecified:
        names |= {"localhost", "127.0.0.1", "::1"}
    return names
