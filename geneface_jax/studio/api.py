"""The addresses beside the page: health, people, and streams of video."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path
from typing import Any

import fastapi
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from data_tools.command_line import base_type
from data_tools.errors import InputError
from geneface_jax.inference.controls import Controls
from geneface_jax.studio.context import Context
from geneface_jax.studio.render_queue import Cancelled, ListedPerson, QueueFull, RenderJob
from geneface_jax.studio.uploads import accept_audio
from geneface_jax.studio.widgets import color_code

NO_STORE = {"cache-control": "no-store", "accept-ranges": "none"}


def add_routes(app: fastapi.FastAPI, context: Context) -> None:
    """Adds `GET /health`, `GET /api/people`, `GET /stream/TOKEN` and `POST /api/stream?person=NAME&control=value...`."""

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/people")
    def people() -> list[dict[str, Any]]:
        found = [context.people.get(name) for name in context.people.names()]
        return [{"name": person.name, "size": person.size, "frames": person.frames, "consent": person.consent} for person in found]

    @app.get("/stream/{token}")
    async def ordered(token: str) -> fastapi.Response:
        try:
            order = context.stream_order(token)
            return await _respond(context, order.person, order.audio, order.controls)
        except InputError as error:
            return _refused(error, context)

    @app.post("/api/stream")
    async def posted(request: fastapi.Request) -> fastapi.Response:
        """Body: a recording in any format. Query: `person`, and any control by its name."""
        upload = context.workspace.new_file("uploads", ".upload")
        try:
            with upload.open("wb") as stream:
                async for piece in request.stream():
                    stream.write(piece)
            query = dict(request.query_params)
            person = context.people.get(query.pop("person", None))
            controls = controls_of_query(query)
            audio = await run_in_threadpool(accept_audio, upload, context.workspace, context.limits)
            return await _respond(context, person, audio, controls)
        except InputError as error:
            return _refused(error, context)
        finally:
            upload.unlink(missing_ok=True)


def controls_of_query(query: Mapping[str, str]) -> Controls:
    """Controls by name, as text.

    A background is "original" or `#rrggbb`: names of files and of anything else are refused, so that no request opens a file.

    Raises:
      InputError: no such control, no number, or as `Controls.validate`.
    """
    fields = {field.name: field for field in dataclasses.fields(Controls)}
    values: dict[str, Any] = {}
    for name, given in query.items():
        if name not in fields:
            raise InputError(f"there is no control {name!r}; choose from {', '.join(fields)}")
        try:
            values[name] = base_type(fields[name])(given)
        except ValueError as error:
            raise InputError(f"{name} is {given!r}; give a number") from error
    if values.get("bg", "original") != "original":
        values["bg"] = color_code(values["bg"])
    return Controls(**values).validate()


async def _respond(context: Context, person: ListedPerson, audio: Path, controls: Controls) -> StreamingResponse:
    ticket = context.desk.enter()
    pieces = context.performance.streamed(ticket, person, audio, controls)
    try:
        # What can go wrong does so before the first piece, while an error can still be told.
        first = await run_in_threadpool(next, pieces, b"")
    except BaseException:
        context.desk.leave(ticket)
        raise
    return StreamingResponse(_pieces(context, ticket, pieces, first), media_type="video/mp4", headers=NO_STORE)


async def _pieces(context: Context, ticket: RenderJob, pieces: Generator[bytes, None, None], first: bytes) -> AsyncIterator[bytes]:
    """The stream; ends the render when the viewer goes away."""
    try:
        yield first
        with contextlib.suppress(Cancelled):
            while piece := await run_in_threadpool(next, pieces, b""):
                yield piece
    finally:
        ticket.cancelled.set()
        # A piece may just be in the making in another thread: whoever closes the render has to wait for it.
        threading.Thread(target=_close, args=(context, ticket, pieces), daemon=True).start()
        await asyncio.sleep(0)


def _close(context: Context, ticket: RenderJob, pieces: Generator[bytes, None, None]) -> None:
    while True:
        try:
            pieces.close()
            break
        except ValueError:  # it is running: the ticket ends it at the next piece
            threading.Event().wait(0.05)
    context.desk.leave(ticket)


def _refused(error: InputError, context: Context) -> JSONResponse:
    if isinstance(error, QueueFull):
        return JSONResponse({"error": str(error)}, 503, {"retry-after": "30"})
    return JSONResponse({"error": context.sentence(error, "en")}, 400)
