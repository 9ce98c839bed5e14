"""ASGI middleware of the studio: host and origin checks, route allow-list, size and rate limits."""

import collections
import dataclasses
import ipaddress
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from data_tools.errors import InputError

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
      stall_seconds: a stream whose reader takes nothing for so long lets the next render run until it reads on.
      max_stalled: streams that may be stalled at a time; a further one ends the one that has been longest.
      max_requests: requests served at a time, of all clients; one client on another machine gets at most half of them.
      field_bytes: size of a form's field that is not a file.
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
    stall_seconds: float = 1.0
    max_stalled: int = 4
    max_requests: int = 200
    field_bytes: int = 1 * MIB


# -------- Request filter: checks of Host and Origin, allow-list of routes, limits of the body
#
# Gradio's server offers far more than this page uses (a proxy, downloads by URL, redirects, an editor), hence the allow-list. A page of
# another site can make a browser send requests here (cross-site request forgery, DNS rebinding), but can't choose their Host and Origin.

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ALLOWED_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(assets|static|svelte)/[\w./@-]+|/health|/stream/[0-9a-f]{32}|/api/(people|stream)"
    r"|/live|/live/page\.js|/api/live/stats"
    r"|/gradio_api/(upload|upload_progress|queue/join|queue/data|run/predict|cancel|reset/?|startup-events|info/?|theme\.css)"
    r"|/gradio_api/heartbeat/\w+|/gradio_api/file=.+"
)
ALLOWED_SOCKETS = ("/api/live",)
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


class Upload(Protocol):
    """One upload that is arriving."""

    def reserve(self, count: int) -> bool:
        """Sets bytes aside for the part of the body that is not written yet; False if the space is used up."""

    def wrote(self, count: int) -> None:
        """So many of the reserved bytes are in a file now."""

    def end(self) -> None:
        """The request is over: frees what was reserved, and deletes what a client that left has left behind."""


class Storage(Protocol):
    """What the filter asks before it lets an upload in; `uploads.Quota` is one."""

    @property
    def folder(self) -> Path:
        """The private folder."""

    def begin(self) -> Upload:
        """An upload that begins to arrive; `end` must follow."""


class RequestFilter:
    """ASGI middleware.

    Args:
      app: the ASGI app behind the filter.
      hosts: accepted host names and addresses, without ports.
      limits: of request bodies and of requests at a time.
      storage: reserves room for every upload; a message may name files in its folder only.
      root_path: path below which a proxy shows the studio ("/geneface"); addresses are accepted with and without it.
      events: the page's events: Gradio's number (`fn_index`) -> number of values.
    """

    def __init__(
        self,
        app: Any,
        hosts: Collection[str],
        limits: Limits,
        storage: Storage,
        root_path: str = "",
        events: Mapping[int, int] | None = None,
    ):
        self._app, self._hosts, self._limits, self._storage = app, {host.lower() for host in hosts}, limits, storage
        self._root_path, self._events = root_path, events or {}
        self._folder = storage.folder.resolve()
        self._clients: collections.Counter[str] = collections.Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if self._root_path and scope["path"].startswith(f"{self._root_path}/"):
            scope = {**scope, "path": (path := scope["path"][len(self._root_path) :]), "raw_path": path.encode()}
        client = str((scope.get("client") or ("",))[0])
        if refusal := self._refusal(scope, client):
            return await _respond(send, *refusal, kind=_response_of(scope))
        self._clients[client] += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._clients[client] -= 1
            self._clients += collections.Counter()  # drops clients without requests

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # its messages are limited by the protocol
            return await self._app(scope, receive, send)
        limit = getattr(self._limits, UPLOADS.get(scope["path"], "message_bytes"))
        if scope["path"] in UPLOADS:
            return await self._upload(scope, receive, send, limit)
        if scope["method"] in ("POST", "PUT", "PATCH"):
            data = await _read(receive, limit)
            if data is None:
                return await _respond(send, 413, f"The message is larger than the limit of {limit // MIB} MiB.")
            if refusal := self._message_refusal(scope["path"], data):
                return await _respond(send, 400, refusal)
            receive = _replay(data, receive)
        await self._app(scope, receive, _with_headers(send))

    async def _upload(self, scope: Message, receive: Receive, send: Send, limit: int) -> None:
        """Passes an upload on without buffering it; a body that can't be taken is refused, whatever the app responds."""
        headers = dict(scope["headers"])
        upload, answered = self._storage.begin(), False
        body = _GuardedBody(receive, upload, limit, headers.get(b"content-type", b""), self._limits.field_bytes)

        async def sender(message: Message) -> None:
            nonlocal answered
            if body.refusal is None or answered:
                answered = True
                await send(message)

        try:
            if not body.reserve(int(headers.get(b"content-length") or 0)):
                return await _respond(send, 507, FULL)
            await self._app(scope, body, _with_headers(sender))
        except Exception:
            # The app may wrap the refusal, or a client that left, in exceptions of its own.
            if body.refusal is None and not body.left:
                raise
        finally:
            upload.end()
        if body.refusal is not None and not answered:
            await _respond(send, *body.refusal)

    def _refusal(self, scope: Message, client: str) -> tuple[int, str] | None:
        method, path = scope.get("method", "GET"), scope["path"]
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if not self._is_own_origin(f"http://{host}"):
            return 421, self._foreign_host(host)
        if b"origin" in headers and not (
            self._is_own_origin(headers[b"origin"]) and urlsplit(headers[b"origin"]).netloc == headers[b"host"]
        ):
            return 403, (
                "Pages of other sites may not use this studio: open the address it printed; a proxy in front of it has to pass on "
                "the browser's Host header."
            )
        known = path in ALLOWED_SOCKETS if scope["type"] == "websocket" else ALLOWED_ROUTES.fullmatch(path)
        if method not in ("GET", "HEAD", "POST") or not known:
            return 404, "There is nothing at this address."
        if path.startswith("/gradio_api/file=") and (".." in unquote(path).split("/") or "://" in unquote(path).replace(":/", "://")):
            return 404, "There is nothing at this address."
        length = headers.get(b"content-length", "0")
        limit = getattr(self._limits, UPLOADS.get(path, "message_bytes"))
        if not length.isdigit() or int(length) > limit:
            return 413, f"The request is larger than the limit of {limit // MIB} MiB."
        most = self._limits.max_requests
        if path != "/health" and (self._clients.total() >= most or (not is_loopback(client) and self._clients[client] >= most // 2)):
            return 503, "The studio is serving as many requests as it can: try again in a minute."
        return None

    def _foreign_host(self, host: str) -> str:
        try:
            name = urlsplit(f"http://{host}").hostname or ""
        except ValueError:
            name = ""
        if not re.fullmatch(r"[\w.:-]{1,253}", name):
            return "The studio does not accept requests without a valid host name: use the address it printed."
        return f"The studio does not accept the host name {name}: use the address it printed, or start it with --allow-host {name}."

    def _is_own_origin(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and (parts.hostname or "").lower() in self._hosts
        except ValueError:
            return False

    def _message_refusal(self, path: str, body: bytes) -> str | None:
        """Why a message is not passed on to Gradio."""
        try:
            message = json.loads(body or b"null")
        except (ValueError, RecursionError):
            return "The message is not JSON: reload the page."
        if not _names_only_files_in(message, self._folder):
            return "The message names a file that was not uploaded: send files with the upload field."
        if path in ("/gradio_api/queue/join", "/gradio_api/run/predict"):
            # Gradio answers these with an internal error.
            event, data = (message.get("fn_index"), message.get("data")) if isinstance(message, dict) else (None, None)
            if type(event) is not int or event not in self._events:
                return "The page has no such event: reload it."
            if not isinstance(data, list) or len(data) != self._events[event]:
                return "The page's event has another number of values: reload the page."
        return None


FULL = "The studio's disk space is used up: try again later."
_STEP = 1 * MIB
"""Bytes that are reserved at a time for a body of unknown length."""


class Refused(Exception):
    """A body can't be taken; the reason is in `_GuardedBody.refusal`."""


class _GuardedBody:
    """Passes a body on; raises Refused at the limit, at the end of the space and at a form's field that is too large.

    Attributes:
      refusal: status code and sentence, once the body was refused.
      left: whether the client disconnected before the end.
    """

    def __init__(self, receive: Receive, upload: Upload, limit: int, content_type: bytes, field_bytes: int):
        self._receive, self._upload, self._limit = receive, upload, limit
        self._received = self._reserved = self._passed_on = 0
        self._complete = self.left = False
        self._fields = form_fields(content_type, field_bytes)
        self.refusal: tuple[int, str] | None = None

    def reserve(self, count: int) -> bool:
        """Reserves bytes of the announced length; see `Upload.reserve`."""
        self._reserved += count
        return self._upload.reserve(count)

    async def __call__(self) -> Message:
        # Asking for the next piece means that the previous one is written.
        self._upload.wrote(self._passed_on)
        self._passed_on = 0
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.left = not self._complete
            return message
        data = message.get("body", b"")
        self._received += len(data)
        self._complete = not message.get("more_body")
        if self._received > self._limit:
            self._refuse(413, f"The upload is larger than the limit of {self._limit // MIB} MiB.")
        if self._received > self._reserved and not self.reserve(max(_STEP, self._received - self._reserved)):
            self._refuse(507, FULL)
        if self._fields is not None and not self._fields(data):
            self._refuse(413, "A field of the form that is not a file is too large: send files with the upload field.")
        self._passed_on = len(data)
        return message

    def _refuse(self, status: int, sentence: str) -> None:
        self.refusal = status, sentence
        raise Refused


def form_fields(content_type: bytes, most: int) -> Callable[[bytes], bool] | None:
    """A check of a form's body piece by piece: whether its fields that are not files have at most `most` bytes altogether.

    Gradio keeps such fields in memory. None for a body that is not a form with fields; what is malformed is left to Gradio's own parser.
    """
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        return None
    header, is_file, size, damaged = bytearray(), False, 0, False

    def begin() -> None:
        nonlocal is_file
        is_file = False
        header.clear()

    def value(data: bytes, start: int, end: int) -> None:
        header.extend(data[start:end])

    def end_of_header() -> None:
        nonlocal is_file
        is_file = is_file or b"filename" in parse_options_header(bytes(header))[1]
        header.clear()

    def content(data: bytes, start: int, end: int) -> None:
        nonlocal size
        size += 0 if is_file else end - start

    parser = MultipartParser(
        options[b"boundary"], {"on_part_begin": begin, "on_header_value": value, "on_header_end": end_of_header, "on_part_data": content}
    )

    def check(data: bytes) -> bool:
        nonlocal damaged
        try:
            if data and not damaged:
                parser.write(data)
        except ValueError:
            damaged = True
        return size <= most

    return check


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


def _names_only_files_in(message: Any, folder: Path) -> bool:
    """Whether every file that a message (parsed JSON) names lies in the folder.

    Without this check Gradio would fetch a URL, or copy a file below the working or temporary folder to where the page can read it.
    """
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


def _response_of(scope: Message) -> str:
    """How the messages of a refusal begin."""
    return "websocket.http.response" if scope["type"] == "websocket" else "http.response"


async def _respond(send: Send, status: int, sentence: str, kind: str = "http.response") -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": f"{kind}.start", "status": status, "headers": headers + list(HEADERS.items())})
    await send({"type": f"{kind}.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *HEADERS.items()]}
        await send(message)

    return sender


def host_names(host: str, others: Collection[str] = ()) -> set[str]:
    """Host names that a studio listening on `host` accepts: the address, `others`, and the local names for a loopback address.

    Raises:
      InputError: one of `others` is not a host name; a port in it is ignored.
    """
    names = {host.strip("[]")}
    for other in others:
        try:
            name = urlsplit(
                other if "://" in other else f"//[{other}]" if other.count(":") > 1 and "[" not in other else f"//{other}"
            ).hostname
        except ValueError:
            name = None
        if not name:
            raise InputError(f"--allow-host is {other!r}: give a host name or an address, such as example.org.")
        names.add(name)
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return names
    if address.is_loopback or address.is_unspecified:
        names |= {"localhost", "127.0.0.1", "::1"}
    return names


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def root_path(path: str) -> str:
    """A path below which a proxy shows the studio, without the slash at its end; "" for none.

    Raises:
      InputError: it is not a path.
    """
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/[\w.~-]+)+", path, re.ASCII):
        raise InputError(f"--root-path is {path!r}: give the path of the proxy, such as /geneface.")
    return path
