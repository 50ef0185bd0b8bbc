"""The same lists for people. Whatever came from outside is escaped; a mail's HTML stays in a frame without rights."""

from collections.abc import Mapping, Sequence
from html import escape

from fastapi import Response

from sandbox.faults import Fault
from sandbox.mail import Mail
from sandbox.postmaster import BEGINNINGS
from sandbox.sms import ENDINGS

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
nav a { margin-right: 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8884; overflow-wrap: anywhere }
details { border-bottom: 1px solid #8884; padding: .5rem 0 }
summary { cursor: pointer } summary small { opacity: .7; float: right }
pre { white-space: pre-wrap } iframe { width: 100%; height: 26rem; border: 1px solid #8884; background: #fff }
label { margin-right: .8rem } input { width: 9rem } .quiet { opacity: .7 }
"""

# The one script there is; the lists, which show what others wrote, may run none.
_SCRIPT = """
const call = async (method, path, body) => {
  const answer = await fetch(path, {method, body: body && JSON.stringify(body),
    headers: body ? {"content-type": "application/json"} : {}});
  if (answer.ok) location.reload(); else document.getElementById("said").textContent = await answer.text();
};
document.getElementById("set").addEventListener("submit", event => {
  event.preventDefault();
  const {target, ...fields} = Object.fromEntries(new FormData(event.target));
  const fault = {mode: fields.mode};
  for (const name of ["status", "delayMs", "rate", "count"]) if (fields[name]) fault[name] = Number(fields[name]);
  call("PUT", "/sandbox/faults/" + target, fault);
});
document.getElementById("write").addEventListener("submit", event => {
  event.preventDefault();
  call("POST", "/sandbox/sms/inbound", Object.fromEntries(new FormData(event.target)));
});
document.getElementById("well").onclick = () => call("DELETE", "/sandbox/faults");
document.getElementById("forget").onclick = () => call("DELETE", "/sandbox/data");
"""

_MODES = ("ok", "error", "timeout", "throttle", "reset", "lost-reply")


def front(
    *, lists: Mapping[str, str], faults: Mapping[str, Fault | list[Fault]], smtp_port: int, here: str
) -> Response:
    """What there is to see and to break. `lists` says what is behind each name under `/sandbox/`."""
    links = "".join(
        f'<li><a href="/sandbox/{escape(name)}">{escape(name)}</a> ({escape(what)})</li>'
        for name, what in lists.items()
    )
    rows = [
        {"target": target, **each.model_dump(mode="json")}
        for target, fault in faults.items()
        for each in (fault if isinstance(fault, list) else [fault])
    ]
    meanings = [
        *({"it": f"number ending in {ending}", "meets": what} for ending, what in ENDINGS.items()),
        *({"it": f"{beginning}…@", "meets": what} for beginning, what in BEGINNINGS.items()),
    ]
    targets = "".join(f"<option>{escape(target)}</option>" for target in faults)
    modes = "".join(f"<option>{mode}</option>" for mode in _MODES)
    numbers = "".join(
        f'<label>{name} <input name="{name}" type="number" step="any"></label>'
        for name in ("status", "delayMs", "rate", "count")
    )
    return _page(
        "Sandbox",
        f"""<p>The outside world on one machine. Mail arrives on port {smtp_port}.</p>
<ul>{links}</ul>
<h2>Tokens</h2>
<p>For development, anybody may be whoever they say:</p>
<pre>make -s token ROLE=staff TENANT=default
curl -su dev:dev {escape(here)}/oauth/token -d grant_type=client_credentials -d role=staff -d tenant=default</pre>
<p>Roles are user, staff and admin. Tokens are verified with <a href="/.well-known/jwks.json">these keys</a>; more is
in the <a href="/.well-known/openid-configuration">configuration</a>.</p>
<h2>Numbers and addresses</h2>
<p>What becomes of a text goes by the last digits of its number, of a mail by how its address begins:</p>
{_table(meanings)}
<form id="write"><p>A text from <label><input name="from" value="+254711000111" required></label>
<label><input name="text" value="STOP" required></label> <button>comes in</button></p></form>
<h2>Faults</h2>{_table(rows)}
<form id="set"><p><select name="target">{targets}</select> <select name="mode">{modes}</select> {numbers}
<button>Set</button></p></form>
<p><button id="well">All well again</button> <button id="forget">Forget everything recorded</button></p>
<p id="said" role="alert"></p><script>{_SCRIPT}</script>""",
        script="'unsafe-inline'",
    )


def listing(title: str, rows: Sequence[Mapping[str, object]], *, total: int, following: str = "") -> Response:
    """A table of records, newest first; `following` is where the next page is."""
    return _page(title, _shown(len(rows), total) + _table(rows) + _older(following))


def inbox(mails: Sequence[Mail], *, total: int, following: str) -> Response:
    """The mails, the newest one open."""
    shown = "".join(_mail(mail, is_open=number == 0) for number, mail in enumerate(mails))
    return _page("Inbox", _shown(len(mails), total) + shown + _older(following))


def _mail(mail: Mail, *, is_open: bool) -> str:
    frame = ""
    if mail["html"]:
        # Links open outside; scripts, forms and the sandbox's own origin stay out of reach.
        inside = escape('<base target="_blank">' + mail["html"])
        rights = "allow-popups allow-popups-to-escape-sandbox"
        frame = f'<iframe title="HTML" loading="lazy" sandbox="{rights}" srcdoc="{inside}"></iframe>'
    return f"""<details{" open" if is_open else ""}>
<summary><b>{escape(mail["subject"]) or "(no subject)"}</b> to {escape(mail["to"])}
<small>{escape(mail["at"])}</small></summary>
<p class="quiet">From {escape(mail["from"])} · {escape(mail["messageId"])}</p>
{frame}<pre>{escape(mail["text"])}</pre></details>"""


def _shown(count: int, total: int) -> str:
    return f'<p class="quiet">{count} of {total}, newest first; as JSON without <code>Accept: text/html</code>.</p>'


def _older(following: str) -> str:
    return f'<p><a href="{escape(following)}">Older</a></p>' if following else ""


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return "<p>Nothing yet.</p>"
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = "".join(
        "<tr>" + "".join(f"<td>{'' if value is None else escape(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _page(title: str, body: str, *, script: str = "'none'") -> Response:
    links = "".join(
        f'<a href="{path}">{name}</a>'
        for name, path in (
            ("Sandbox", "/"),
            ("Inbox", "/sandbox/inbox"),
            ("SMS", "/sandbox/sms"),
            ("Push", "/sandbox/push"),
            ("Ledger", "/sandbox/ledger"),
            ("Webhooks", "/sandbox/webhooks"),
            ("Receipts", "/sandbox/receipts"),
        )
    )
    content = f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>
<nav>{links}</nav><h1>{escape(title)}</h1>{body}</html>"""
    rules = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src * data:; connect-src 'self'; script-src {script};"
        " base-uri 'none'"
    )
    headers = {"content-security-policy": rules, "x-frame-options": "DENY", "vary": "accept"}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)
