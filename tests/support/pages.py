"""Pages as a browser without a script has them: parsed, their links and forms followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin

import httpx

BROWSER = {"accept": "text/html,application/xhtml+xml"}
FORM = BROWSER | {"sec-fetch-site": "same-origin"}

_EMPTY = {"br", "hr", "img", "input", "link", "meta", "path", "rect"}


@dataclass
class Form:
    """A form: where it leads, and what it sends."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """One page.

    Attributes:
        url: where it was read.
        elements: every element with its attributes, in their order.
        text: all text that is shown, its white space made one.
        forms: by the path that each leads to.
    """

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(convert_charrefs=True)
        self.answer = answer
        self.url = str(answer.url)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._parts: list[str] = []
        self._inner: Form | None = None
        self._area: str | None = None
        self._forms: list[Form] = []
        self._by_id: dict[str, Form] = {}
        self.unclosed: list[str] = []
        self.feed(answer.text)
        self.text = " ".join("".join(self._parts).split())

    @property
    def forms(self) -> dict[str, Form]:
        """Give the forms that change something, by the path to which they lead; of several, the first."""
        posted = (form for form in reversed(self._forms) if form.method == "post")
        return {httpx.URL(form.action).path: form for form in posted}

    def links(self) -> list[str]:
        """Give where its links and its parts come from, whole."""
        found = [attributes.get("href") or attributes.get("src") for _, attributes in self.elements]
        return [urljoin(self.url, one) for one in found if one and not one.startswith("#")]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in _EMPTY:
            self._open.append(tag)
        if tag == "form":
            action = urljoin(self.url, attributes.get("action", ""))
            self._inner = Form(action, attributes.get("method", "get"))
            self._forms.append(self._inner)
            if "id" in attributes:
                self._by_id[attributes["id"]] = self._inner
        elif tag == "textarea":
            self._area = attributes["name"]
        elif tag == "input" and attributes.get("type") not in {"checkbox"}:
            form = self._by_id.get(attributes.get("form", ""), self._inner)
            if form is not None and "name" in attributes:
                form.fields.append((attributes["name"], attributes.get("value", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)
        if tag == "form":
            self._inner = None
        elif tag == "textarea":
            self._area = None

    def handle_data(self, data: str) -> None:
        if self._area is not None and self._inner is not None:
            self._inner.fields.append((self._area, data.removeprefix("\n")))
        if not {"script", "style", "template"} & set(self._open):
            self._parts.append(data)


async def open_page(site: httpx.AsyncClient, path: str, *, status: int = 200) -> Page:
    """Open a page as a browser does; it leads wherever it leads."""
    answer = await site.get(path, headers=BROWSER, follow_redirects=True)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    return Page(answer)


async def send(
    site: httpx.AsyncClient, form: Form, *, status: int = 200, **changed: str | list[str]
) -> Page:
    """Send a form, with some of its fields changed, and open the page to which that leads."""
    fields: dict[str, list[str]] = {}
    for name, value in form.fields:
        fields.setdefault(name, []).append(value)
    fields |= {name: [one] if isinstance(one, str) else one for name, one in changed.items()}
    kind = {"content-type": "application/x-www-form-urlencoded"}  # also with nothing in it
    content = urlencode(fields, doseq=True)
    answer = await site.post(form.action, content=content, headers=FORM | kind)
    if status < 300:
        assert answer.status_code == 303, answer.text
        return await open_page(
            site, urljoin(form.action, answer.headers["location"]), status=status
        )
    assert answer.status_code == status, answer.text
    return Page(answer)
