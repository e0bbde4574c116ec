"""The proxy's configuration: written once at its start, whatever leases come and go. Pure.

One frontend decides whether a call is one it knows everything about; then it goes straight to the lease's container.
All else goes to the built-in plane, which has the one rule, the reasons for refusals, cookies, limits and caches.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api.gateway import headers
from api.gateway.problems import LISTEN_RETRY, NOT_LISTENING

HOT = 20
"""Reads a second of one lease from which on the proxy carries them by itself. Below that the built-in plane does, which
can tell a person from a page that asks on a beat (`api.gateway.asking`); no page asks that often."""
LONG = 2**20
"""Bytes of an answer from which on it is noted as a stream, so that it can be cut."""


@dataclass(frozen=True)
class Plan:
    """What one installation's proxy is to be."""

    folder: Path
    """Its own: sockets, maps, configuration."""
    descriptor: int
    """Of the listening socket, which it inherits: it needs no right to open one."""
    certificate: Path | None
    """PEM with chain and key; None: no TLS."""
    networks: Sequence[str]
    """Where containers live."""
    domain: str
    """`<lease>.<domain>` is a lease's own host; empty: none are."""
    threads: int
    """0: one a core."""
    stale_seconds: float
    connect_seconds: float
    idle_seconds: float
    header_seconds: float
    keep_seconds: float
    connections: int

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.map"

    @property
    def grants(self) -> Path:
        return self.folder / "grants.map"

    @property
    def admin(self) -> Path:
        """Socket of the runtime api."""
        return self.folder / "admin.sock"

    @property
    def inner(self) -> Path:
        """Socket on which the built-in plane listens."""
        return self.folder / "builtin.sock"


def render(plan: Plan) -> str:
    """The whole file."""
    scheme = "https" if plan.certificate else "http"
    threads = f"  nbthread {plan.threads}\n" if plan.threads else ""
    return f"""\
global
{threads}  stats socket {plan.admin} mode 600 level admin
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets

defaults
  mode http
  retries 0
  timeout connect {_ms(plan.connect_seconds)}
  timeout client {_ms(plan.idle_seconds)}
  timeout server {_ms(plan.idle_seconds)}
  timeout tunnel {_ms(plan.idle_seconds)}
  timeout client-fin 30s
  timeout server-fin 30s
  timeout http-request {_ms(plan.header_seconds)}
  timeout http-keep-alive {_ms(plan.keep_seconds)}
  option http-restrict-req-hdr-names delete
  errorfile 400 {plan.folder / "400.http"}
  errorfile 408 {plan.folder / "408.http"}

# One entry: that the maps are current. It is renewed with every view of the grants and goes by itself.
backend current
  stick-table type integer size 2 expire {_ms(plan.stale_seconds)} store gpc0
# What each lease was asked for and has carried here.
backend leases
  stick-table type integer size 100k expire 24h store http_req_cnt,bytes_in_cnt,bytes_out_cnt
backend reads
  stick-table type integer size 100k expire 10s store http_req_rate(1s)
# Long answers under way: token's serial | principal | lease | caller.
backend streams
  stick-table type string len 160 size 100k expire 10s

frontend public
  bind fd@{plan.descriptor}{_tls(plan.certificate)}
  maxconn {plan.connections}
  http-request return status 503 content-type application/problem+json string {_problem(503, "unavailable", STALE)} \
hdr Retry-After 1 unless {{ int(1),table_gpc0(current) eq 1 }}
  acl below path -m reg ^/l/[a-z0-9-]+/
  acl whole url_beg /
  acl whole req.ver -m beg 2
  acl named req.hdr(host) -m reg ^[A-Za-z0-9.:-]+$
  acl odd path -m sub .. // /. %2e %2E %2f %2F %5c %5C %00 '\\'
  acl odd req.hdr(cookie) -m sub leasing_
  acl odd req.hdr(upgrade) -m found
  acl odd req.fhdr_cnt(authorization) gt 1
  acl odd req.hdrs -m reg '\\x00'
  acl linked req.hdr(connection) -m found
  acl alone req.hdr(connection) -m str -i keep-alive close
  acl read method GET HEAD OPTIONS
  acl busy method POST PUT PATCH DELETE
  acl grpc req.hdr(content-type) -m beg application/grpc
  http-request set-var(txn.odd) bool(true) if odd || !whole || !named || linked !alone
{_hosted(plan.domain)}\
  http-request set-var(txn.root) req.hdr(leasing-lease) \
if !below grpc {{ req.hdr(leasing-lease) -m reg ^[a-z0-9-]+$ }} !{{ var(txn.root) -m found }}
  http-request set-var(txn.name) var(txn.root)
  http-request set-var(txn.name) path,field(3,/) if below !{{ var(txn.root) -m found }}
  http-request set-var(txn.who) http_auth_bearer,sha2(256),hex,map_str({plan.tokens}) if !{{ var(txn.odd) -m found }}
  http-request set-var(txn.at) var(txn.who),field(2,:),concat(|,txn.name),map_str({plan.grants})
  acl known var(txn.at) -m found
  acl root var(txn.root) -m found
  http-request track-sc0 var(txn.at),field(3,:) table reads if known read
  acl busy sc0_http_req_rate(reads) ge {HOT}
  use_backend apps if known busy !grpc !root
  use_backend apps_root if known busy !grpc root
  use_backend apps_h2 if known busy grpc !root
  use_backend apps_root_h2 if known busy grpc root
  default_backend builtin

backend builtin
  http-reuse never
  http-error status 502 content-type application/problem+json string {_problem(502, "bad_answer", BROKE_OFF)}
  http-error status 503 content-type application/problem+json string {_problem(503, "unavailable", STALE)}
  server builtin unix@{plan.inner} send-proxy

{_apps(plan, "apps", scheme, root=False, h2=False)}
{_apps(plan, "apps_root", scheme, root=True, h2=False)}
{_apps(plan, "apps_h2", scheme, root=False, h2=True)}
{_apps(plan, "apps_root_h2", scheme, root=True, h2=True)}"""


def _apps(plan: Plan, name: str, scheme: str, *, root: bool, h2: bool) -> str:
    """What is done to a call that goes straight to its container, and to the answer."""
    return f"""\
backend {name}
  http-reuse safe
  http-request deny deny_status 502 unless {{ var(txn.at),field(1,:) -m ip {" ".join(plan.networks)} }}
  http-request track-sc1 var(txn.at),field(3,:) table leases
  http-request del-header {f"^({OWN}|{OURS})$" if h2 else f"^({OWN}|{OURS}|{HOPS})$"} -m reg
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Leasing-User %[var(txn.who),field(3,:)]
{"" if root else BELOW}\
  http-request set-dst var(txn.at),field(1,:)
  http-request set-dst-port var(txn.at),field(2,:)
  http-request set-var(txn.started) var(txn.at),field(4,:)
  acl short res.hdr_val(content-length) lt {LONG}
  acl sized res.hdr(content-length) -m found
  acl moved res.hdr(location) -m found
  acl cookie res.hdr(set-cookie) -m found
  # Of any answer: it would hold for the pages and for other endpoints, too.
  http-response del-header ^({THEIRS})$ -m reg
  # Most answers are short and need no other change: nothing more is looked at.
  http-response allow if sized short !moved !cookie
  http-response set-var(txn.src) src
  http-response set-var(txn.port) src_port
  http-response track-sc2 var(txn.who),concat(|,txn.name),concat(|,txn.src),concat(|,txn.port) table streams
{_answered("" if root else "/l/%[var(txn.name)]")}\
  http-error status 502 content-type application/problem+json string {_problem(502, "bad_answer", BROKE_OFF)}
  http-error status 503 content-type application/problem+json lf-string {_problem(503, "not_listening", NOBODY)} \
hdr Retry-After {LISTEN_RETRY} hdr Cache-Control no-store
  http-error status 504 content-type application/problem+json string {_problem(504, "too_slow", SILENT)}
  server app 0.0.0.0:0{" proto h2" if h2 else ""}
"""


OWN = "authorization|leasing-lease"
OURS = "forwarded|x-forwarded-.*|x-real-ip|x-leasing-.*"
HOPS = "te|trailer|keep-alive|proxy-.*|http2-settings|upgrade"
"""What never reaches an application: the platform's token, what a caller says in our name, what ends at each hop."""

THEIRS = "|".join(sorted(one.decode() for one in headers.ORIGIN_WIDE))
"""What never reaches a browser."""

REFUSED = "refused=; Max-Age=0"
"""A cookie that changes nothing, for one that may not be set."""
KEPT, DROPPED = r"([^;]*+(?:;(?!\s*domain\s*=)[^;]*+)*+)", r"(?:;\s*domain\s*=[^;]*+)*+"
PARTS = 9
"""Of a cookie, between its domains: as many as an expression can name, and as a name with eight attributes has."""

BELOW = """\
  http-request set-header X-Forwarded-Prefix /l/%[var(txn.name)]
  http-request replace-path ^/l/[a-z0-9-]+(/.*)$ '\\1'
"""


def _answered(prefix: str) -> str:
    """Redirects and cookies of the application stay below the endpoint's prefix, as `api.gateway.headers` does it.

    A marker in front of the cookie lets an expression compare its path with the lease's name. Of several paths a
    browser takes the last. Domains are taken away however many there are, unless more stands between them than a cookie
    has: who sets that sets no cookie.
    """
    elsewhere = (
        ""
        if not prefix
        else f"""\
  acl ours_already res.hdr(location),field(2,/) -m str l
  acl ours_named res.hdr(location),field(3,/),strcmp(txn.name) eq 0
  http-response set-header Location {prefix}%[res.hdr(location)] \
if {{ res.hdr(location) -m beg / }} !{{ res.hdr(location) -m beg // }} !ours_already || \
{{ res.hdr(location) -m beg / }} !{{ res.hdr(location) -m beg // }} !ours_named
"""
    )
    path = (
        ""
        if not prefix
        else """\
  http-response replace-header Set-Cookie '^(.*)$' 'leasing!%[var(txn.name)]!\\1' if cookie
  http-response replace-header Set-Cookie \
'(?i)^leasing!([a-z0-9-]+)!(.*);\\s*path\\s*=\\s*(/l/\\1/[^;]*+)(?!.*;\\s*path\\s*=)(.*)$' '\\2; Path=\\3\\4' if cookie
  http-response replace-header Set-Cookie \
'(?i)^leasing!([a-z0-9-]+)!(.*);\\s*path\\s*=\\s*(/[^;]*+)(?!.*;\\s*path\\s*=)(.*)$' '\\2; Path=/l/\\1\\3\\4' if cookie
  http-response replace-header Set-Cookie '^leasing!([a-z0-9-]+)!(.*)$' '\\2; Path=/l/\\1/' if cookie
"""
    )
    whole = "".join(f"\\{number}" for number in range(1, PARTS + 1))
    return f"""\
  acl absolute res.hdr(location) -m beg http://
  http-response set-var(txn.here) var(txn.at),regsub(:[0-9]+:[0-9]+$,) if absolute
  acl at_home res.hdr(location),field(3,/),strcmp(txn.here) eq 0
  http-response set-header Location %[res.hdr(location),regsub(^http://[^/]*,)] if absolute at_home
{elsewhere}\
  http-response replace-header Set-Cookie '(?i)^\\s*leasing[_!].*$' '{REFUSED}' if cookie
  http-response replace-header Set-Cookie '(?i)^{DROPPED.join([KEPT] * PARTS)}{DROPPED}$' '{whole}' if cookie
  http-response replace-header Set-Cookie '(?i)^.*;\\s*domain\\s*=.*$' '{REFUSED}' if cookie
{path}"""


def _hosted(domain: str) -> str:
    """`<lease>.<domain>` names the lease, whatever the path."""
    if not domain:
        return ""
    host = "req.hdr(host),host_only,lower"
    known = f"{{ {host} -m reg ^[a-z0-9-]+\\.{re.escape(domain)}$ }}"
    return f"  http-request set-var(txn.root) {host},field(1,.) if {known}\n"


def _tls(certificate: Path | None) -> str:
    return f" ssl crt {certificate} alpn h2,http/1.1" if certificate else ""


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


MALFORMED = "The request is not HTTP as it should be."
SLOW = "The request did not come in time."
STALE = "The gateway cannot confirm who may come in; try again shortly."
BROKE_OFF = "The application broke off."
SILENT = "The application did not answer in time."
NOBODY = NOT_LISTENING.format(
    name="%[var(txn.name)]", port="%[var(txn.at),field(2,:)]", age="%[date,sub(txn.started)]"
)


def errors() -> dict[str, str]:
    """Answers to what is refused before it is a request, by file name: whole, as they stand on the wire."""
    return {
        "400.http": _whole("400 Bad Request", _body(400, "malformed", MALFORMED)),
        "408.http": _whole("408 Request Timeout", _body(408, "too_slow", SLOW)),
    }


def _whole(status: str, body: str) -> str:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}"
    )


def _problem(status: int, code: str, detail: str) -> str:
    return f"'{_body(status, code, detail)}'"


def _body(status: int, code: str, detail: str) -> str:
    return f'{{"type":"urn:leasing:{code}","title":"{code}","status":{status},"code":"{code}","detail":"{detail}"}}'
