"""What a person sees where signing in did not work: what happened and what to do, in plain words, English or German."""

from html import escape

from fastapi import Request

from backoffice.sign_in.texts import TEXTS


def language_of(request: Request) -> str:
    return "de" if request.headers.get("accept-language", "").lower().startswith("de") else "en"


def refusal_page(request: Request, reason: str, *, to: str = "/") -> str:
    language = language_of(request)
    title, text = TEXTS[language][reason]
    again, home = TEXTS[language]["again"]
    return f"""<!doctype html>
<html lang="{language}">
  <head>
    <meta charset="utf-8">
    <title>Brewline · {escape(title)}</title>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <link rel="icon" href="/web/shared/icon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="/web/shared/base.css">
  </head>
  <body>
    <main class="state whole">
      <img src="/web/shared/icon.svg" alt="" width="64" height="64">
      <h1 class="state-title">{escape(title)}</h1>
      <p>{escape(text)}</p>
      <p class="row">
        <a class="button primary" href="/auth/sign-in?to={escape(to)}">{escape(again)}</a>
        <a class="button" href="/">{escape(home)}</a>
      </p>
    </main>
  </body>
</html>
"""
