"""HTTP routes besides the page: health check, list of persons, and streams of video."""

import asyncio
import contextlib
import dataclasses
import functools
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import fastapi
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from data_tools.command_line import base_type
from data_tools.errors import InputError
from data_tools.io import disk_errors_as_input_errors
from geneface_jax.inference.controls import Controls
from geneface_jax.inference.person import Person, open_person
from geneface_jax.io.person_folder import SubjectParts
from geneface_jax.live import rendering, server, speech
from geneface_jax.studio.people import PersonList
from geneface_jax.studio.render_queue import Cancelled, Context, ListedPerson, QueueFull, RenderJob
from geneface_jax.studio.uploads import StorageFull
from geneface_jax.studio.widgets import color_code

NO_STORE = {"cache-control": "no-store", "accept-ranges": "none"}


def add_routes(app: fastapi.FastAPI, context: Context) -> None:
    """Adds `GET /health`, `GET /api/people`, `GET /stream/TOKEN` and `POST /api/stream?person=NAME&control=value...`."""

    # Not in a thread: it answers while all threads are busy.
    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/people")
    def people() -> list[dict[str, Any]]:
        """Those that can be rendered, then the broken ones with the reason."""
        found = [{"name": one.name, "size": one.size, "frames": one.frames, "consent": one.consent} for one in context.people.all()]
        return [*found, *({"name": one.name, "broken": context.without_folders(one.reason)} for one in context.people.broken())]

    @app.get("/stream/{token}")
    async def registered_stream(request: fastapi.Request, token: str) -> fastapi.Response:
        try:
            wanted = context.stream_request(token)
            return await _respond(request, context, wanted.person, wanted.audio, wanted.controls)
        except InputError as error:
            return _error_response(error, context)

    @app.post("/api/stream")
    async def posted_stream(request: fastapi.Request) -> fastapi.Response:
        """Body: a recording in any format. Query: `person`, and any control by its name."""
        upload = context.workspace.new_file("uploads", ".upload")
        try:
            query = dict(request.query_params)
            person = await run_in_threadpool(context.people.get, query.pop("person", None))
            controls = controls_of_query(query)
            with disk_errors_as_input_errors(context.workspace.folder), upload.open("wb") as stream:
                async for chunk in request.stream():
                    stream.write(chunk)
            return await _respond(request, context, person, upload, controls)
        except ClientDisconnect:
            return fastapi.Response(status_code=400)  # the client is gone
        except InputError as error:
            return _error_response(error, context)
        finally:
            upload.unlink(missing_ok=True)


def controls_of_query(query: Mapping[str, str]) -> Controls:
    """Controls from a query string.

    A background is "original" or `#rrggbb`; file names and everything else are refused, so that no request opens a file.

    Raises:
      InputError: an unknown control, a value that is not a number, or as `Controls.validate`.
    """
    fields = {field.name: field for field in dataclasses.fields(Controls)}
    values: dict[str, Any] = {}
    for name, value in query.items():
        if name not in fields:
            raise InputError(f"There is no control {name!r}: choose from {', '.join(fields)}.")
        try:
            values[name] = base_type(fields[name])(value)
        except ValueError as error:
            raise InputError(f"The control {name} is {value!r}: give a number.") from error
    if values.get("bg", "original") != "original":
        values["bg"] = color_code(values["bg"])
    return Controls(**values).validate()


async def _respond(request: fastapi.Request, context: Context, person: ListedPerson, upload: Path, controls: Controls) -> fastapi.Response:
    """Waits for the job's turn and the first piece; errors of the input occur until then, while the status code can still report them."""
    context.quota.require()
    job = context.queue.submit()
    chunks = context.renders.streamed(job, person, upload, controls)
    leaving = asyncio.create_task(_cancel_when_gone(request, job))
    try:
        first = await run_in_threadpool(next, chunks, b"")
    except Cancelled:
        context.queue.remove(job)
        return fastapi.Response(status_code=400)  # the client is gone
    except BaseException:
        job.cancelled.set()
        _close_later(context, job, chunks)
        raise
    finally:
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
    drop = getattr(request.state, "drop_connection", None)
    return VideoStream(context, job, chunks, first, drop)


async def _cancel_when_gone(request: fastapi.Request, job: RenderJob) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancelled.set()


class VideoStream(StreamingResponse):
    """The pieces of a render. While the reader takes none, other renders have the turn; the render ends when the client disconnects.

    Args:
      first: the first piece; `chunks` yields the others.
      drop: ends the connection at once; None where the server has no such function.
    """

    def __init__(
        self, context: Context, job: RenderJob, chunks: Generator[bytes, None, None], first: bytes, drop: Callable[[], None] | None = None
    ):
        super().__init__(self._pieces(first), media_type="video/mp4", headers=NO_STORE)
        self._context, self._job, self._chunks, self._drop = context, job, chunks, drop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._job.cancelled.set()
            _close_later(self._context, self._job, self._chunks)

    async def listen_for_disconnect(self, receive: Receive) -> None:
        await super().listen_for_disconnect(receive)
        # A thread that waits for the job's turn is not interrupted otherwise.
        self._job.cancelled.set()

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(functools.partial(self._send, send))
        except Cancelled:
            if self._drop is None:
                raise
            self._drop()
            await asyncio.sleep(1.0)  # until the disconnect ends this task

    async def _pieces(self, first: bytes) -> AsyncIterator[bytes]:
        chunk = first
        while chunk:
            yield chunk
            chunk = await run_in_threadpool(next, self._chunks, b"")

    async def _send(self, send: Send, message: Message) -> None:
        queue, sending = self._context.queue, asyncio.ensure_future(send(message))
        try:
            done, _ = await asyncio.wait({sending}, timeout=self._context.limits.stall_seconds)
            if not done:
                queue.lend(self._job)
                while not done:
                    self._job.check()
                    done, _ = await asyncio.wait({sending}, timeout=0.5)
                await run_in_threadpool(lambda: list(queue.wait(self._job)))
            await sending
        finally:
            sending.cancel()


def _close_later(context: Context, job: RenderJob, chunks: Generator[bytes, None, None]) -> None:
    """Closes the generator in a thread: another one may be rendering a piece at this moment, for which closing has to wait."""
    threading.Thread(target=_close, args=(context, job, chunks), daemon=True).start()


def _close(context: Context, job: RenderJob, chunks: Generator[bytes, None, None]) -> None:
    while True:
        try:
            chunks.close()
            break
        except ValueError:  # the generator is running: the cancelled job ends it at the next chunk
            threading.Event().wait(0.05)
    context.queue.remove(job)


def _error_response(error: InputError, context: Context) -> JSONResponse:
    if isinstance(error, QueueFull):
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "30"})
    if isinstance(error, StorageFull):
        return JSONResponse({"error": str(error)}, 507)
    return JSONResponse({"error": context.error_message(error, "en")}, 400)


# -------- Live sessions


def add_live(app: fastapi.FastAPI, people: PersonList) -> server.LiveHub:
    """Adds the routes of live sessions, and returns these. A person's networks are loaded, and its programs compiled, at its first call."""
    opened: dict[SubjectParts, Person] = {}

    def open_person_stage(name: str | None, size: int | None) -> rendering.Stage:
        listed = people.get(name or next(iter(people.names()), None))
        try:
            if listed.parts not in opened:
                opened[listed.parts] = open_person(listed.parts)
            person = opened[listed.parts]
            painter = rendering.LiveRenderer(person, size)
            return rendering.open_stage(listed.name, person, speech.open_live_speech(person), painter)
        except InputError as error:
            raise InputError(people.without_folders(str(error))) from error

    hub = server.LiveHub(open_person_stage)
    server.add_live_routes(app, hub)
    return hub
