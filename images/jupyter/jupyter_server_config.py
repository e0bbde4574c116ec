"""JupyterLab in a lease: the gateway signs people in, and says below which path it serves them."""

from __future__ import annotations

from getpass import getuser
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import AuthenticatedHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin


def base_url(handler: Any) -> str:
    """Addresses in pages begin with it. Two ways may lead here at the same time, so each request brings its own."""
    return handler.request.headers.get("X-Forwarded-Prefix", "").rstrip("/") + handler.settings["base_url"]


def below(handler: Any, page: dict[str, Any]) -> dict[str, Any]:
    """The same for what JupyterLab's own scripts are told."""
    prefix = handler.base_url.removesuffix(handler.settings["base_url"])
    return {
        name: prefix + value if name.startswith("full") and str(value).startswith("/") else value
        for name, value in page.items()
    }


class Visitor(IdentityProvider):
    """Whoever the gateway let in, by their name."""

    def get_user(self, handler: Any) -> User:
        return User(username=handler.request.headers.get("X-Leasing-User") or getuser())


for cls in (AuthenticatedHandler, ExtensionHandlerMixin):
    cls.base_url = property(base_url)

c = get_config()  # noqa: F821 - Jupyter gives it to its configuration
c.ServerApp.ip = "0.0.0.0"  # noqa: S104 - of the lease's own network, which only the gateway reaches
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_remote_access = True
c.ServerApp.root_dir = "/workspace"
c.IdentityProvider.token = ""
c.ServerApp.identity_provider_class = Visitor
c.ServerApp.tornado_settings = {"page_config_hook": below}
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
