"""A notification in words, made at the moment of sending: the template of its recipient's language, and whatever must
not be stored, such as the link of a password reset."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from math import inf
from typing import Any

from chassis.db import Database
from notification.domain import DIGEST, PARTS, ChannelName, Message, Notification, Rendered, SignedLink
from notification.outcomes import Refused, Suppressed
from notification.queue.digests import carried_by
from notification.recipients.unsubscribe_link import Unsubscribing
from notification.templates.catalog import Catalog
from notification.templates.render import NotRenderable, render
from notification.templates.sandbox import BadTemplate
from notification.templates.versions import SHIPPED_VERSION

# What a `link` adds to the context, and as `locale` the one to write in, where the notification's was a guess;
# Suppressed where the message has lost its point.
MakeLink = Callable[[Notification], Awaitable[Mapping[str, Any] | Suppressed]]

_DIGEST_LONGEST = 48_000  # characters of all its messages: a text may be 65,536 long
_DIGEST_MOST = 200  # of its messages, the newest: with more of them there would be less than a line of each


_SIGNED = re.compile(r"(?P<url>https?://\S+[?&]signature=)(?P<signature>[\w-]{16,256})")


class Wording:
    def __init__(
        self, *, db: Database, catalog: Catalog, unsubscribing: Unsubscribing, links: Mapping[str, MakeLink]
    ) -> None:
        self._db = db
        self._catalog = catalog
        self._unsubscribing = unsubscribing
        self._links = {**links, DIGEST: self._digest}

    async def message(self, notification: Notification) -> Message | Refused | Suppressed:
        """Ready to go. Raises what the database raises.

        Every e-mail that one may be spared says how, in its headers (RFC 8058) and to its template: whatever makes a
        notification names its category.
        """
        if notification.link == DIGEST and notification.channel is ChannelName.PUSH:
            return Refused("push carries no digest")  # nor what is in it
        linked: Mapping[str, Any] | Suppressed = {}
        if notification.link:
            linked = await self._links[notification.link](notification)
        if isinstance(linked, Suppressed):
            return linked
        unsubscribe = self._unsubscribe(notification)
        values, tokens = _hidden({**_private_links(notification.context), **linked, **unsubscribe})
        of_digest = notification.link == DIGEST
        rendered = await self._rendered(
            notification,
            {**notification.context, **values},
            category="Digest" if of_digest else notification.category,
            name="digest" if of_digest else notification.template,
            locale=linked.get("locale"),
        )
        if isinstance(rendered, Refused):
            return rendered
        return Message(
            id=notification.id,
            tenant=notification.tenant,
            address=notification.address,
            rendered=_shown(rendered, tokens),
            context=notification.context,
            template=notification.template,
            subject_id=notification.subject_id,
            critical=notification.critical,
            traceparent=notification.traceparent,
            recipient_id=notification.recipient_id,
            category=notification.category,
            headers=self._unsubscribing.headers(unsubscribe["unsubscribeLink"]) if unsubscribe else {},
            tokens=list(tokens.values()),
        )

    def _unsubscribe(self, notification: Notification) -> Mapping[str, SignedLink]:
        """What the template of an e-mail that one may be spared has besides; nothing for any other message."""
        if notification.channel is not ChannelName.EMAIL or notification.critical:
            return {}
        link = self._unsubscribing.link(
            notification.tenant, notification.recipient_id, notification.channel, notification.category
        )
        return {"unsubscribeLink": link}

    async def _rendered(
        self,
        notification: Notification,
        context: Mapping[str, Any],
        *,
        category: str,
        name: str,
        locale: str | None = None,
        also: Sequence[str] = (),
    ) -> Rendered | Refused:
        """The parts that its channel needs, of which the template must have one, and those that it has of `also`. In
        its own locale, unless another is given."""
        found = await self._catalog.find(notification.tenant, category, name, locale or notification.locale)
        if found is None:
            return Refused(f"no template {category}/{name}")
        parts = PARTS[notification.channel]
        all_parts = {*parts, *also}
        words = partial(render, found.source, context, locale=found.locale, parts=all_parts, name=f"{category}/{name}")
        try:
            if found.version == SHIPPED_VERSION:  # proven: no pause of the process, be it for garbage, makes it fail
                rendered = words(seconds=inf)
            else:  # it may take up all of its processor time, which everybody else's loop has not
                rendered = await asyncio.to_thread(words)
        except BadTemplate:
            return Refused(f"template {category}/{name}: broken")
        except NotRenderable as error:
            return Refused(str(error))
        if not any(getattr(rendered, part) for part in parts):
            return Refused(f"template {category}/{name} has nothing for {notification.channel}")
        return rendered

    async def _digest(self, notification: Notification) -> Mapping[str, Any] | Suppressed:
        """Each of its messages as it would have gone alone, but for its links: the newest, and how many `more`."""
        others = await self._db.read(lambda conn: carried_by(conn, notification.id))
        left = [notification, *others]
        share = _DIGEST_LONGEST // (2 * min(len(left), _DIGEST_MOST))  # cut short, or all would be refused as too long
        items: list[Mapping[str, str]] = []
        while left and len(items) < _DIGEST_MOST:
            message = left.pop()
            rendered = await self._rendered(
                message, message.context, category=message.category, name=message.template, also=("subject",)
            )
            if isinstance(rendered, Rendered):
                text = rendered.text or rendered.sms or rendered.push
                subject = rendered.subject or message.template
                items.append({"subject": _cut(subject, share), "text": _cut(text.strip(), share)})
            await asyncio.sleep(0)  # all of them at once would keep everybody else waiting
        if not items:
            return Suppressed("nothing to tell")
        counted = {"count": len(items) + len(left), "more": len(left)}
        return {**counted, "items": items[::-1], "category": notification.category}


def _private_links(context: Mapping[str, Any]) -> Mapping[str, SignedLink]:
    """Links that another service has signed: whoever has one is let in, and no record shows its signature."""
    found = {name: _SIGNED.fullmatch(value) for name, value in context.items() if isinstance(value, str)}
    return {name: SignedLink(link["url"], link["signature"]) for name, link in found.items() if link}


def _hidden(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """`values` with something else where a link has its token, and which token that is. Digits, so that no filter
    changes them; as many, so that nothing is cut in the middle of them later; and any, so that nobody else's words in
    the context can name them."""
    tokens: dict[str, str] = {}
    hidden = dict(values)
    for name, value in values.items():
        if isinstance(value, SignedLink):
            length = len(value.token)
            digits = f"{secrets.randbelow(10**length):0{length}}"
            tokens[digits] = value.token
            hidden[name] = value.removesuffix(value.token) + digits
    return hidden, tokens


def _shown(rendered: Rendered, tokens: Mapping[str, str]) -> Rendered:
    for digits, token in tokens.items():
        words = {part: text.replace(digits, token) for part, text in asdict(rendered).items()}
        rendered = Rendered(**words)
    return rendered


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
