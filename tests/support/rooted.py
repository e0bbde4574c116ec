"""An application that believes it lives at `/`, as notebooks and dashboards do: every link of its pages is absolute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.support.applications import serving

PAGE = """<!doctype html><html lang="en"><title>waits</title><link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/look.css"><h1>Rooted</h1><a href="/next">next</a>
<script type="module" src="/static/app.js"></script></html>"""
SCRIPT = """import { word } from "./word.js";
const told = await (await fetch("/api/data")).text();
const sent = await (await fetch("/api/echo", {method: "POST", body: "posted"})).text();
const heard = await new Promise((done) => {
  const socket = new WebSocket(`ws://${location.host}/ws?x=1`);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (message) => { done(message.data); socket.close(); };
  socket.onerror = () => done("no socket");
});
history.replaceState(null, "", "/deep/page");
const later = await (await fetch("/api/data")).text();
document.title = [word, told, sent, heard, later].join(" ");"""
FILES = {
    "/static/app.js": ("text/javascript", SCRIPT),
    "/static/word.js": ("text/javascript", 'export const word = "module";'),
    "/static/look.css": ("text/css", "h1 { color: rgb(1, 2, 3); }"),
    "/static/icon.svg": ("image/svg+xml", '<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "/api/data": ("text/plain", "data"),
}


@dataclass
class Rooted:
    """Where it listens, and what it was asked."""

    port: int = 0
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.raw_path, dict(request.headers)))
        if request.path == "/ws":
            socket = web.WebSocketResponse(protocols=["chat"], autoping=True)
            await socket.prepare(request)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data.upper())
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
            return socket
        if request.path == "/api/echo":
            return web.Response(text=await request.text())
        if request.path == "/moved":
            raise web.HTTPFound("/next")
        if request.path in FILES:
            kind, text = FILES[request.path]
            return web.Response(text=text, content_type=kind)
        answer = web.Response(text=PAGE, content_type="text/html")
        answer.set_cookie("own", "1")
        return answer


@contextmanager
def rooted() -> Iterator[Rooted]:
    made = Rooted()
    with serving(made.answer) as made.port:
        yield made
