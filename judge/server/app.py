"""The HTTP API, and the page that uses it. Pictures stay in memory and are forgotten."""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from markdown_it import MarkdownIt
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartParser
from starlette.types import ASGIApp

from judge.judging import Judge
from judge.server.conditions import conditions, read_slices
from judge.server.guard import Guard
from judge.server.training_set import find_training_set
from judge.server.workers import BusyError, FailedError, Limits, Workers

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parents[1] / "page"
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_RETRY_SECONDS = "2"


class Neighbour(BaseModel):
    """A training picture that looks alike to the detector; what it is, where the data are."""

    distance: float
    label: str | None = None
    method: str | None = None
    image: str | None = Field(None, description="its address on this server")


class Condition(BaseModel):
    """How often the detector is right about test pictures of this size or compression."""

    measure: str
    value: str
    label: str = Field(description="of which class")
    correct: float
    low: float
    high: float


class Judged(BaseModel):
    """What the detector, and the file itself, say of one picture."""

    name: str = Field(description="as it was sent")
    error: str | None = Field(None, description="why it was not judged; all else is null then")
    verdict: str | None = Field(None, description="real, fake or unsure")
    probability: float | None = Field(None, description="P(fake), calibrated")
    distance: float | None = Field(None, description="from training, in size and detail")
    unlike_training: bool | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    jpeg_quality: int | None = Field(None, description="1 to 100; 0: no JPEG")
    said: dict[str, str] | None = Field(None, description="what stands in the file; not used")
    marks: dict[str, bool] | None = Field(None, description="present or not; not checked")
    neighbours: list[Neighbour] | None = None
    conditions: list[Condition] | None = None


class Answer(BaseModel):
    """One entry per picture, in their order."""

    images: list[Judged]


class Card(BaseModel):
    """The model card and what verdicts rest on."""

    trained_on: str = Field(description="what the detector was trained on, a sentence")
    markdown: str
    real_below: float = Field(description="probability below which it is called real")
    fake_from: float = Field(description="probability from which a picture is called fake")
    temperature: float
    ood_distance: float


class Health(BaseModel):
    """Whether the server can take pictures."""

    status: str
    runtime: str
    waiting: int
    queue: int


class Service:
    """What the routes share."""

    def __init__(self, models: Path, runtime: str, processes: int, limits: Limits) -> None:
        """Load the detector, and look for the data beside it."""
        judge = Judge.load(models, runtime)
        self.calibration, self.runtime = judge.calibration, judge.runtime.name
        self.trained_on = judge.trained_on
        repository = models.resolve().parent  # where there is one
        self.training = find_training_set(repository, judge)
        self.slices = read_slices(repository / "plots/evaluate/slices.csv")
        self.card, self.limits = models / "card.md", limits
        self.workers = Workers(models, self.runtime, processes, limits)

    async def judged(self, name: str, data: bytes) -> Judged:
        """Return what is to be said of a picture that has its place in the queue."""
        try:
            found = await self.workers.judge(data)
        except FailedError as error:
            return Judged(name=name, error=str(error))
        said = found.pop("facts")
        size = min(found["width"], found["height"])
        neighbours = [self._neighbour(**near) for near in found.pop("neighbours")]
        around = conditions(self.slices, size, said["jpeg_quality"])
        return Judged(name=name, neighbours=neighbours, conditions=around, **said, **found)

    def _neighbour(self, position: int, distance: float) -> dict[str, Any]:
        return {"distance": distance, **(self.training.describe(position) if self.training else {})}

    def reserve(self, images: int) -> None:
        """Take places in the queue.

        Raises:
            HTTPException: 413, more files than a request may have; 503, the queue is full.
        """
        if images > self.limits.files:
            raise HTTPException(413, f"{images} files, more than {self.limits.files}: send fewer")
        try:
            self.workers.reserve(images)
        except BusyError as error:
            raise HTTPException(
                503,
                f"{self.workers.waiting} images wait, of {self.limits.queue} that may: try again",
                {"Retry-After": _RETRY_SECONDS},
            ) from error


def build_app(
    models: Path, runtime: str, processes: int, limits: Limits, hosts: Collection[str] | None
) -> ASGIApp:
    """Return the app; `hosts` are the names that it answers to, None: any.

    Raises:
        InputError: there is no trained model in `models`.
    """
    MultiPartParser.spool_max_size = limits.megabytes * 10**6  # never to a file
    service = Service(models, runtime, processes, limits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.workers.stop()

    app = FastAPI(
        title="Photograph or generated?",
        version="1",
        lifespan=lifespan,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.add_exception_handler(StarletteHTTPException, _plain)
    app.add_exception_handler(RequestValidationError, _plain)
    add_judging(app, service)
    add_reading(app, service)
    add_pages(app, service)
    return Guard(app, limits.megabytes * 10**6, hosts)


def _plain(_request: Request, error: Exception) -> Response:
    if isinstance(error, StarletteHTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return JSONResponse({"error": f"{where}: {first['msg']}"}, 400)


def add_judging(app: FastAPI, service: Service) -> None:
    """Add what takes pictures."""

    @app.post("/api/judge")
    async def judge(images: list[UploadFile]) -> Answer:
        """Judge one or many pictures. 503: too many wait, try again after Retry-After seconds."""
        contents = [await image.read() for image in images]
        service.reserve(len(contents))
        answers = await asyncio.gather(
            *(
                service.judged(image.filename or "", data)
                for image, data in zip(images, contents, strict=True)
            )
        )
        return Answer(images=answers)

    @app.post(
        "/api/heatmap", response_class=Response, responses={200: {"content": {"image/png": {}}}}
    )
    async def heatmap(image: UploadFile) -> Response:
        """Return what speaks for fake (orange) and for real (teal), as PNG."""
        data = await image.read()
        service.reserve(1)
        try:
            return Response(await service.workers.heatmap(data), media_type="image/png")
        except FailedError as error:
            raise HTTPException(422, str(error)) from error


def add_reading(app: FastAPI, service: Service) -> None:
    """Add what programs ask without a picture."""

    @app.get("/api/training/{position}", response_class=Response)
    async def training(position: int) -> Response:
        """Return a training picture that an answer names as a neighbour."""
        if service.training is None or not 0 <= position < len(service.training):
            raise HTTPException(404, f"no training picture {position}")
        return Response(service.training.image(position), media_type="image/*")

    @app.get("/api/card")
    async def card() -> Card:
        """Return the model card."""
        known = service.calibration
        return Card(
            trained_on=service.trained_on,
            markdown=_text(service.card),
            real_below=known.ends[0],
            fake_from=known.ends[1],
            temperature=known.temperature,
            ood_distance=known.ood_distance,
        )

    @app.get("/api/health")
    async def health() -> Health:
        """Say whether the server can take pictures."""
        waiting, queue = service.workers.waiting, service.limits.queue
        status = "ok" if waiting < queue else "full"
        return Health(status=status, runtime=service.runtime, waiting=waiting, queue=queue)


def add_pages(app: FastAPI, service: Service) -> None:
    """Add what people open."""
    pages: Sequence[tuple[str, str]] = (
        ("/style.css", "style.css"),
        ("/icon.svg", "icon.svg"),
        ("/page.js", "page.js"),
        ("/api/docs", "api.html"),
        ("/api.js", "api.js"),
    )
    for address, name in pages:
        handler = _handler((PAGE / name).read_bytes(), _TYPES[Path(name).suffix])
        app.router.add_route(address, handler, methods=["GET"])

    first = f'<p id="trained">{escape(service.trained_on)}</p>'
    index = (PAGE / "index.html").read_text(encoding="utf-8").replace("<!-- trained on -->", first)
    app.router.add_route("/", _handler(index.encode(), _TYPES[".html"]), methods=["GET"])

    @app.get("/card", include_in_schema=False)
    async def card() -> HTMLResponse:
        rendered = MarkdownIt("commonmark", {"html": False}).enable("table")
        text = (PAGE / "card.html").read_text(encoding="utf-8")
        return HTMLResponse(text.replace("<!-- card -->", rendered.render(_text(service.card))))


def _handler(content: bytes, media: str) -> Any:
    async def page(_request: Request) -> Response:
        return Response(content, media_type=media)

    return page


def _text(card: Path) -> str:
    if not card.is_file():
        return "No card: `make repro` writes models/card.md."
    return card.read_text(encoding="utf-8")
