"""LEASING_NOTIFY_*: how people are warned before the platform takes something back."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

CHAT = (
    "discord,gchat,gotify,gotifys,mattermost,mattermosts,matrix,matrixs,mmost,mmosts,msteams,ntfy,ntfys,pover,rocket,"
    "rockets,slack,tgram,webex,wxteams,workflow,workflows,zulip"
)


class NotifySettings(BaseSettings):
    """Channels beside the pages and the shell, and how patiently they are tried."""

    model_config = SettingsConfigDict(env_prefix="LEASING_NOTIFY_")

    smtp_url: str = Field(
        default="",
        description="Mail server: smtp://HOST:25, smtp://USER:PASSWORD@HOST:587 (STARTTLS), or smtps:// (TLS). Empty: "
        "nobody is mailed.",
        repr=False,
    )
    smtp_from: str = Field(default="leasing@localhost", description="Sender of mails.")
    webhook_url: str = Field(
        default="", description="Every warning of every lease is posted there as JSON, too.", repr=False
    )
    webhook_secret: str = Field(
        default="", description="Key of the signature (HMAC-SHA256) on those calls.", repr=False
    )
    chat_schemes: str = Field(
        default=CHAT,
        description="Kinds of Apprise addresses that users may give for chat, comma-separated.",
    )
    allow: str = Field(
        default="",
        description="Hosts or networks (ADDRESS/PREFIX), comma-separated, that users' webhooks and chats may reach "
        "although they are not public: a chat server of the company's own.",
    )
    timeout_seconds: float = Field(
        default=15.0,
        gt=0,
        description="A mail server, webhook or chat that is silent for so long has failed.",
    )
    attempts: int = Field(default=8, ge=1, description="A warning is tried so often on a channel.")
    retry_seconds: float = Field(
        default=15.0, gt=0, description="Pause before the second try; it doubles with each, up to 15 minutes."
    )
    retention_warnings: str = Field(
        default="172800,86400",
        description="So many seconds before the files of a suspended lease go, its owner is warned; what is not "
        "shorter than half of the retention is left out.",
    )

    def schemes(self) -> frozenset[str]:
        """Those that chat may use."""
        return frozenset(self.chat_schemes.replace(" ", "").split(",")) - {""}

    def allowed(self) -> tuple[str, ...]:
        """Hosts and networks beside the public ones."""
        return tuple(part for part in self.allow.replace(" ", "").split(",") if part)

    def retention_steps(self, retention_seconds: float) -> tuple[int, ...]:
        """When to warn before files go that are kept for so long."""
        asked = (int(part) for part in self.retention_warnings.replace(" ", "").split(",") if part)
        return tuple(sorted((step for step in asked if 0 < step <= retention_seconds / 2), reverse=True))
