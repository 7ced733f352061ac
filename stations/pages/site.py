"""What every page shares: what the shell gives, who visits, the templates, the headers, and errors as pages."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import jinja2
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from schemas.errors import Mistake, Rejected, Unavailable
from schemas.vocabulary import Role
from sinks import web
from sinks.database import reading, writing
from stations.desk import Desk
from stations.incidents import Incidents
from stations.pages import accounts
from stations.pages.shown import Shown
from stations.pages.words import LANGUAGES, Lang, translate
from stations.streams import Hub
from streams.ports import Authority, Clock, Principal
from streams.stages.county import County

_log: Final = logging.getLogger("tipline.pages")

#: Bytes of a form: 4,000 characters of text, percent-encoded three bytes each, and the other fields.
MAX_FORM: Final = 96 * 1024
#: Paths that only programs ask for: their errors are problems, never pages.
_PROGRAMS: Final = ("/v1/", "/open311/", "/static/", "/openapi.json", "/healthz", "/readyz", "/metrics")
THEMES: Final = ("auto", "light", "dark")

#: Takes a submission for a principal, durably -> {tip_id, receipt}. Raises Rejected, Unavailable.
Take = Callable[[dict[str, Any], Principal], Awaitable[Mapping[str, Any]]]


class Likely(msgspec.Struct, frozen=True):
    """An incident that a text may tell of, with how likely."""

    incident_id: str
    probability: float


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What would become of a text if it were taken now. Nothing is stored."""

    category: str
    subtype: str | None
    urgent: bool
    confidence: float
    area: str | None
    area_candidates: tuple[str, ...] = ()
    station: str | None
    cc: tuple[str, ...] = ()
    level: str | None = None
    due_at: str | None = None
    #: {kind, cue, detail}, as in a decision.
    reasons: tuple[Mapping[str, str], ...] = ()
    #: None where this process does not remember incidents.
    likely: tuple[Likely, ...] | None = ()


#: county, submission as far as it is filled in (text, place, category_hint) -> what would become of it. May block.
Previewing = Callable[[str, dict[str, Any]], Preview]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the installation, for the ops page. `problem` None: it is well."""

    name: str
    problem: str | None = None
    lag: int | None = None
    detail: str = ""


class Ops(Protocol):
    """What the ops page may do, by the shell's leave. All may block."""

    def parts(self) -> Sequence[Part]:
        """The parts of the installation and how they are."""

    def open_letter(self, identity: str, actor: str) -> bytes | None:
        """The bytes of a dead letter, unsealed; the look is written to the audit."""

    def replay(self, identity: str, actor: str) -> bool:
        """Puts a dead letter back into the input; False when it is unknown or settled."""

    def discard(self, identity: str, actor: str) -> bool:
        """Marks a dead letter as of no use; False when it is unknown or settled."""


@dataclass(frozen=True)
class Pages:
    """What the pages need of the shell."""

    desk: Desk
    incidents: Incidents
    hub: Hub
    authority: Authority
    clock: Clock
    entropy: accounts.Entropy
    take: Take
    preview: Previewing
    #: A receipt as people type it -> {status, at}; None for an unknown one. May block.
    status_of_receipt: Callable[[str], Mapping[str, Any] | None]
    ops: Ops
    #: The origin people reach us at, for the QR code; None: as the request says.
    public_url: str | None = None
    #: Tiles of a server of one's own, like https://tiles.example/{z}/{x}/{y}.png; None: boundaries alone.
    tiles: str | None = None
    #: Reports an address may send at once, and a minute from then on.
    report_burst: float = 20
    report_per_minute: float = 6


Form = Mapping[str, str]


@dataclass
class Visit:
    """One request: who, in which language, with which form."""

    site: Site
    request: Request
    lang: Lang
    theme: str
    secret: str | None
    session: accounts.Session | None
    #: The secret that form tokens derive from: the session's, else the visitor's own cookie.
    form_secret: str
    cookies: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    form: dict[str, list[str]] = field(default_factory=dict)

    @property
    def pages(self) -> Pages:
        """What the shell gave."""
        return self.site.pages

    @property
    def principal(self) -> Principal:
        """Who is logged in. Raises Rejected (401)."""
        if self.session is None:
            raise Rejected(401, "unauthorized", "Log in first")
        return self.session.principal

    @property
    def token(self) -> str:
        """What every unsafe form carries."""
        return form_token(self.form_secret)

    @property
    def secure(self) -> bool:
        """Whether the visitor came by TLS."""
        return self.request.url.scheme == "https"

    @property
    def address(self) -> str:
        """Where the visitor comes from."""
        return self.request.client.host if self.request.client is not None else "-"

    @property
    def partial(self) -> bool:
        """Whether the script asks for a part of a page."""
        return self.request.headers.get("hx-request") == "true"

    @cached_property
    def shown(self) -> Shown:
        """Things in the visitor's words."""
        return Shown(self.lang, self.pages.desk.counties, self.pages.clock())

    def t(self, key: str, **values: object) -> str:
        """A string of the page in the visitor's language."""
        return translate(self.lang, key, **values)

    def first(self, name: str, most: int = 4000) -> str:
        """A form's field; empty when absent. Raises Rejected (422) beyond `most` characters."""
        value = (self.form.get(name) or [""])[0].replace("\r\n", "\n").strip()
        if len(value) > most or "\0" in value:
            raise Rejected(422, "invalid", "A field is too long", [Mistake(f"/{name}", f"at most {most} characters")])
        return value

    def asked(self, name: str, most: int = 200) -> str:
        """A field of the query; empty when absent or too long."""
        value = self.request.query_params.get(name, "").strip()
        return value if len(value) <= most and "\0" not in value else ""

    def after(self) -> tuple[int, str] | None:
        """Where a list that is read from the newest goes on: (ms, id) of the last one shown before; None at its start."""
        at, _, identity = self.asked("after", 80).partition(".")
        return (int(at), identity) if at.isdecimal() and len(at) < 16 and identity else None

    def county(self) -> County:
        """The county that the visitor works in or, outside, chose by `?county=`."""
        counties = self.pages.desk.counties
        wanted = self.session.principal.county if self.session is not None else None
        found = counties.get(wanted or self.asked("county")) if (wanted or self.asked("county")) else None
        return found if found is not None else next(iter(counties.values()))


Handler = Callable[[Visit], Response | Awaitable[Response]]


def form_token(secret: str) -> str:
    """The token of forms made for a cookie; from it the cookie cannot be told."""
    digest = hashlib.sha256(b"tipline form\0" + secret.encode()).digest()
    return base64.urlsafe_b64encode(digest[:24]).decode()


class Asset(msgspec.Struct, frozen=True):
    """A file that is served as it is."""

    body: bytes
    packed: bytes
    kind: str
    version: str


_KINDS: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


def _assets() -> dict[str, Asset]:
    """Every file of `static`, read once at start."""
    found: dict[str, Asset] = {}
    root = files("stations.pages").joinpath("static")
    for folder, prefix in ((root, ""), (root.joinpath("vendor"), "vendor/")):
        for entry in folder.iterdir():
            kind = next((kind for end, kind in _KINDS.items() if entry.name.endswith(end)), None)
            if kind is not None:
                body = entry.read_bytes()
                version = hashlib.sha256(body).hexdigest()[:12]
                found[prefix + entry.name] = Asset(body, gzip.compress(body, 6, mtime=0), kind, version)
    return found


class Site:
    """The pages of one process."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.assets = _assets()
        self.logins = accounts.Slowdown()
        self.reports = accounts.Paces(pages.report_burst, pages.report_per_minute)
        self.receipts = accounts.Paces(60, 60)
        self.templates = jinja2.Environment(
            loader=jinja2.PackageLoader("stations.pages"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters["json"] = lambda value: msgspec.json.encode(value).decode()
        self.policy = _policy(pages.tiles)

    def asset(self, name: str) -> str:
        """The address of a static file; it changes with the content."""
        return f"/static/{name}?v={self.assets[name].version}"

    def headers(self, visit_secure: bool) -> dict[str, str]:
        """What every answer carries."""
        found = {
            "content-security-policy": self.policy,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "geolocation=(self), camera=(), microphone=(), payment=(), usb=()",
            "cache-control": "no-store",
        }
        return {**found, "strict-transport-security": "max-age=31536000"} if visit_secure else found

    # --- routes -------------------------------------------------------------------------------------------------------

    def route(
        self, path: str, handler: Handler, method: str = "GET", *, roles: Collection[Role] | None = None
    ) -> BaseRoute:
        """A page. `roles` None: for everybody; otherwise only for those who are logged in with one of them."""

        async def endpoint(request: Request) -> Response:
            return await self._serve(request, handler, roles)

        endpoint.roles = roles  # type: ignore[attr-defined]  # tests read from it who may come
        return Route(path, endpoint, methods=[method])

    async def _serve(self, request: Request, handler: Handler, roles: Collection[Role] | None) -> Response:
        visit: Visit | None = None
        try:
            visit = await run_in_threadpool(self._visit, request)
            response = await self._answer(visit, handler, roles)
        except (Rejected, Unavailable) as error:
            response = self._refused(request, visit, error)
        except ClientDisconnect:
            response = Response(status_code=400)
        except HTTPException as error:
            response = self._refused(request, visit, Rejected(error.status_code, "http", error.detail))
        except Exception as error:  # the last net; messages may quote a tip, so only the place is logged
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            reference = self.pages.entropy(6).hex()
            place = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
            _log.error("fault %s: %s at %s", reference, type(error).__name__, place)
            response = self._refused(request, visit, Rejected(500, "internal", reference))
        return self._dressed(request, visit, response)

    async def _answer(self, visit: Visit, handler: Handler, roles: Collection[Role] | None) -> Response:
        if roles is not None:
            if visit.session is None:
                return _to_login(visit)
            if visit.session.principal.role not in roles:
                raise Rejected(403, "forbidden", f"The role {visit.session.principal.role} may not see this page")
        if visit.request.method != "GET":
            await _read_form(visit)
        if inspect.iscoroutinefunction(handler):
            made: Response = await handler(visit)
            return made
        return await run_in_threadpool(handler, visit)  # type: ignore[arg-type]

    def _visit(self, request: Request) -> Visit:
        secret = request.cookies.get(cookie_name(request, "session"))
        session = None
        if secret and len(secret) <= 64:
            now = self.pages.clock()
            with reading(self.pages.desk.engine) as connection:
                session, due = accounts.find(connection, secret, now=now)
            if session is not None and due:
                with writing(self.pages.desk.engine) as connection:
                    accounts.touch(connection, secret, now=now)
        cookies: dict[str, tuple[str, int | None]] = {}
        own = request.cookies.get(cookie_name(request, "form"), "")
        if session is None and not 30 <= len(own) <= 64:
            own = base64.urlsafe_b64encode(self.pages.entropy(32)).rstrip(b"=").decode()
            cookies["form"] = (own, None)
        form_secret = secret if session is not None and secret is not None else own
        lang, theme = _preferences(request, cookies)
        return Visit(self, request, lang, theme, secret, session, form_secret, cookies)

    # --- answers ------------------------------------------------------------------------------------------------------

    def render(self, visit: Visit, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page of a template."""
        html = self.templates.get_template(template).render(
            v=visit,
            t=visit.t,
            w=visit.shown,
            asset=self.asset,
            lang=visit.lang,
            here=_here(visit.request),
            link=lambda **changes: _link(visit.request, changes),
            **values,
        )
        return Response(html, status, media_type="text/html; charset=utf-8")

    async def http_error(self, request: Request, error: Exception) -> Response:
        """Starlette's own 404 and 405: a page for who reads pages, a problem for programs."""
        reads = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(_PROGRAMS)
        if not reads or not isinstance(error, HTTPException):
            return await web.http_problem(request, error)
        visit = await run_in_threadpool(self._visit, request)
        refused = Rejected(error.status_code, "http", error.detail)
        return self._dressed(request, visit, self._refused(request, visit, refused))

    def _refused(self, request: Request, visit: Visit | None, error: Rejected | Unavailable) -> Response:
        status = 503 if isinstance(error, Unavailable) else error.status
        if visit is None:
            cookies: dict[str, tuple[str, int | None]] = {}
            lang, theme = _preferences(request, cookies)
            visit = Visit(self, request, lang, theme, None, None, "", cookies)
        slug = "unavailable" if isinstance(error, Unavailable) else error.slug
        mistakes = () if isinstance(error, Unavailable) else error.mistakes
        if "application/json" in request.headers.get("accept", ""):
            body = msgspec.json.encode({"error": slug, "words": visit.shown.refusal(slug, status)})
            return Response(body, status, media_type="application/json")
        reference = str(error) if status == 500 else None
        words = visit.shown.refusal(slug, status)
        return self.render(visit, "error.html", status, words=words, mistakes=mistakes, reference=reference)

    def _dressed(self, request: Request, visit: Visit | None, response: Response) -> Response:
        secure = request.url.scheme == "https"
        for name, value in self.headers(secure).items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("vary", "Cookie, Accept-Language")
        for name, (value, seconds) in (visit.cookies if visit is not None else {}).items():
            response.set_cookie(
                cookie_name(request, name),
                value,
                max_age=seconds,
                path="/",
                secure=secure,
                httponly=True,
                samesite="strict",
            )
        return response


def cookie_name(request: Request, name: str) -> str:
    """`__Host-` where a cookie can have it; plain on a loopback without TLS."""
    return f"{'__Host-' if request.url.scheme == 'https' else ''}tipline-{name}"


def _policy(tiles: str | None) -> str:
    parts = urlsplit(tiles) if tiles else None
    images = f"'self' data: {parts.scheme}://{parts.netloc}" if parts is not None else "'self' data:"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src {images}; connect-src 'self'; font-src 'self'; manifest-src 'self'; worker-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _preferences(request: Request, cookies: dict[str, tuple[str, int | None]]) -> tuple[Lang, str]:
    """Language and theme: the query's, which is then kept, else the cookie's, else the browser's."""
    year = 365 * 24 * 3600
    lang: str = request.query_params.get("lang", "")
    if lang in LANGUAGES:
        cookies["lang"] = (lang, year)
    else:
        lang = request.cookies.get(cookie_name(request, "lang"), "")
    theme = request.query_params.get("theme", "")
    if theme in THEMES:
        cookies["theme"] = (theme, year)
    else:
        theme = request.cookies.get(cookie_name(request, "theme"), "")
    if lang not in LANGUAGES:
        lang = "en" if request.headers.get("accept-language", "zh").lower().startswith("en") else "zh"
    return ("en" if lang == "en" else "zh"), (theme if theme in THEMES else "auto")


async def _read_form(visit: Visit) -> None:
    """Reads the form of an unsafe request and checks its token. Raises Rejected: 400, 403, 408, 413, 415."""
    request = visit.request
    web.media_type(request, ("application/x-www-form-urlencoded",))
    raw = await web.read_body(request, MAX_FORM)
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=400)
    except ValueError:
        raise Rejected(400, "malformed", "The form cannot be read") from None
    for name, value in pairs:
        visit.form.setdefault(name, []).append(value)
    given = request.headers.get("x-form-token") or (visit.form.get("form_token") or [""])[0]
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or not hmac.compare_digest(given.encode(), visit.token.encode()):
        raise Rejected(403, "form_token", "This form has expired or did not come from here: load the page again")


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _link(request: Request, changes: Mapping[str, object]) -> str:
    """This page's address with other query fields; None takes one out."""
    kept = {name: value for name, value in request.query_params.items() if name not in ("said", *changes)}
    fields = {**kept, **{name: str(value) for name, value in changes.items() if value is not None}}
    path = request.url.path if request.method == "GET" else "/"
    return path + ("?" + urlencode(fields) if fields else "")


def _to_login(visit: Visit) -> Response:
    if visit.partial or visit.request.method != "GET":
        raise Rejected(401, "unauthorized", "Log in first")
    return see("/login?next=" + quote(_here(visit.request), safe=""))


def see(where: str) -> Response:
    """Go there by GET."""
    return RedirectResponse(where, 303)


def local(path: str, otherwise: str) -> str:
    """A path of ours that a form named, never another site's."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if safe and len(path) <= 500 else otherwise
