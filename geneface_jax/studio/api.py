"""HTTP routes besides the page: health check, list of persons, and streams of video."""

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
from geneface_jax.studio.render_queue import Cancelled, Context, ListedPerson, QueueFull, RenderJob
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
    async def registered_stream(token: str) -> fastapi.Response:
        try:
            request = context.stream_request(token)
            return await _respond(context, request.person, request.audio, request.controls)
        except InputError as error:
            return _error_response(error, context)

    @app.post("/api/stream")
    async def posted_stream(request: fastapi.Request) -> fastapi.Response:
        """Body: a recording in any format. Query: `person`, and any control by its name."""
        upload = context.workspace.new_file("uploads", ".upload")
        try:
            with upload.open("wb") as stream:
                async for chunk in request.stream():
                    stream.write(chunk)
            query = dict(request.query_params)
            person = context.people.get(query.pop("person", None))
            controls = controls_of_query(query)
            audio = await run_in_threadpool(accept_audio, upload, context.workspace, context.limits)
            return await _respond(context, person, audio, controls)
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


async def _respond(context: Context, person: ListedPerson, audio: Path, controls: Controls) -> StreamingResponse:
    job = context.queue.submit()
    chunks = context.renders.streamed(job, person, audio, controls)
    try:
        # Errors of the input occur before the first chunk, while the status code can still report them.
        first = await run_in_threadpool(next, chunks, b"")
    except BaseException:
        context.queue.remove(job)
        raise
    return StreamingResponse(_stream_chunks(context, job, chunks, first), media_type="video/mp4", headers=NO_STORE)


async def _stream_chunks(context: Context, job: RenderJob, chunks: Generator[bytes, None, None], first: bytes) -> AsyncIterator[bytes]:
    """The response body; cancels the render when the client disconnects."""
    try:
        yield first
        with contextlib.suppress(Cancelled):
            while chunk := await run_in_threadpool(next, chunks, b""):
                yield chunk
    finally:
        job.cancelled.set()
        # Another thread may be rendering a chunk at this moment; closing the generator has to wait for it.
        threading.Thread(target=_close, args=(context, job, chunks), daemon=True).start()
        await asyncio.sleep(0)


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
    return JSONResponse({"error": context.error_message(error, "en")}, 400)
