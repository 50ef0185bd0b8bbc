"""The page where one picks who one is: nobody has to remember a password of a sandbox."""

from collections.abc import Mapping
from html import escape

from fastapi import Response

from sandbox.sign_in import NAMES

_STYLE = """
:root { color-scheme: light dark; --paper: #faf7f3; --card: #fff; --ink: #241c15; --quiet: #675a4e; --line: #9a8b7c;
  --accent: #8a4b1f; --on: #fff; --tint: #f2ece4 }
@media (prefers-color-scheme: dark) { :root { --paper: #171310; --card: #211b16; --ink: #f3ece4; --quiet: #b5a799;
  --line: #857567; --accent: #e3a06a; --on: #241407; --tint: #2b231c } }
* { box-sizing: border-box }
body { margin: 0; min-height: 100dvh; display: grid; place-items: center; padding: 1rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { width: 100%; max-width: 27rem; padding: 2rem; background: var(--card); border-radius: 1rem;
  box-shadow: 0 4px 10px rgb(60 40 20 / 12%), 0 12px 32px rgb(60 40 20 / 14%) }
h1 { margin: 0 0 .25rem; font-size: 1.5625rem; line-height: 1.2; letter-spacing: -.01em }
p { margin: 0 0 1.5rem; color: var(--quiet) }
fieldset { display: grid; gap: .5rem; margin: 0 0 1.25rem; padding: 0; border: 0 }
legend { padding: 0 0 .5rem; font-weight: 600 }
.role { display: flex; gap: .75rem; align-items: center; padding: .75rem 1rem; border: 1px solid var(--line);
  border-radius: .625rem; cursor: pointer }
.role:has(:checked) { border-color: var(--accent); background: var(--tint); box-shadow: inset 0 0 0 1px var(--accent) }
.role b { display: block; line-height: 1.3 } .role small { color: var(--quiet) }
input[type=radio] { flex: none; width: 1.15rem; height: 1.15rem; margin: 0; accent-color: var(--accent) }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin-bottom: 1.5rem }
.fields label { font-weight: 600; font-size: .9rem }
.fields input { display: block; width: 100%; margin-top: .25rem; padding: .5rem .75rem; border: 1px solid var(--line);
  border-radius: .375rem; background: var(--card); color: var(--ink); font: 400 1rem system-ui, sans-serif }
button { width: 100%; min-height: 2.75rem; border: 1px solid var(--accent); border-radius: .375rem;
  background: var(--accent); color: var(--on); font: 600 1rem system-ui, sans-serif; cursor: pointer }
button.plain { margin-top: .5rem; background: none; color: var(--accent); border-color: transparent }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px }
.wrong { padding: .5rem .75rem; border-radius: .375rem; background: #fce8e5; color: #a8231c }
"""

_ROLES = {
    "user": ("a customer", "Orders, and sees what was ordered (user)"),
    "staff": ("behind the bar", "Moves orders, and looks into everything (staff)"),
    "admin": ("who runs the shop", "Changes and repairs things too (admin)"),
}


def sign_in_page(request: Mapping[str, str], *, wrong: str = "") -> Response:
    """`request` is the query that goes with the answer; `wrong` is what was wrong with the last one."""
    chosen = request.get("role", "user")
    roles = "".join(
        f'<label class="role"><input type="radio" name="role" value="{role}"{" checked" if role == chosen else ""}>'
        f"<span><b>{NAMES[role].title()}, {who}</b><small>{does}</small></span></label>"
        for role, (who, does) in _ROLES.items()
    )
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in request.items()
        if name not in {"role", "sub", "tenant", "decision"}
    )
    return _answer(
        200 if not wrong else 400,
        "Who are you?",
        f"""<p>This is the sandbox: pick anybody, no password needed.</p>
{f'<p class="wrong" role="alert">{escape(wrong)}</p>' if wrong else ""}
<form method="post" action="/oauth/authorize">{kept}
<fieldset><legend>You are</legend>{roles}</fieldset>
<div class="fields">
<label>Another name<input name="sub" autocomplete="off" spellcheck="false" value="{
            escape(request.get("sub", ""))
        }"></label>
<label>Tenant<input name="tenant" autocomplete="off" spellcheck="false" value="{
            escape(request.get("tenant") or "default")
        }" required></label>
</div>
<button>Sign in</button><button class="plain" name="decision" value="deny" formnovalidate>Not now</button></form>""",
    )


def said(status: int, title: str, text: str) -> Response:
    return _answer(status, title, f"<p>{escape(text)}</p>")


def _answer(status: int, title: str, body: str) -> Response:
    content = f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>
<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"""
    # No form-action: browsers hold the redirect behind a form against it too, and that one leads to the client's.
    rules = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"content-security-policy": rules, "cache-control": "no-store", "referrer-policy": "no-referrer"}
    return Response(content, status, media_type="text/html; charset=utf-8", headers=headers)
