"""Files over HTTP: left, listed, fetched, deleted; and what is none."""

import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.eventually import eventually

FILES = "/api/v1/files"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
CONTENTS = {
    "jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + b"1" * 99,
    "jpeg": b"\xff\xd8\xff\xdb\x00C" + b"1" * 9,
    "png": PNG,
    "pdf": b"%PDF-1.7\n%%EOF",
}
EXACTLY, MORE = 100_000, 100_001


def docx(*names: str, padding: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"1" * padding)
    return file.getvalue()


CONTENTS["docx"] = docx("word/document.xml", "[Content_Types].xml", padding=300_000)


@pytest.fixture
def stored(database: Path) -> Any:
    """What lies in the storage, with whatever is not whole."""
    folder = database.parent / "storage"
    return lambda: sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def told(issuer: Any) -> Any:
    return lambda sub="u-1", role="user", **known: issuer.bearer(role, sub=sub, **known)


async def leave(client: httpx.AsyncClient, name: str = "cup.png", content: bytes = PNG, **known: Any) -> httpx.Response:
    return await client.post(FILES, files={"file": (name, content)}, **known)


async def left(client: httpx.AsyncClient, name: str = "cup.png", content: bytes = PNG, **known: Any) -> dict[str, Any]:
    answer = await leave(client, name, content, **known)
    assert answer.status_code == 201, answer.text
    return answer.json()


def said(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errorType"]


def form(*parts: str, boundary: str = "b") -> dict[str, Any]:
    content = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts) + f"--{boundary}--\r\n"
    return {"content": content.encode("latin-1"), "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


async def test_a_file_is_kept_with_what_is_known_of_it_and_fetched_as_an_attachment(client, rows, stored):
    answer = await leave(client, "Grüße von Ada.PNG", params={"category": "cups-1"})

    known = answer.json()
    (row,) = rows("SELECT * FROM files")
    assert known == {
        "fileName": f"cups-1/{row.id}.png",
        "originalFileName": "Grüße von Ada.PNG",
        "url": f"{FILES}/cups-1/{row.id}.png",
        "size": len(PNG),
        "sha256": hashlib.sha256(PNG).hexdigest(),
    }
    (listed,) = (await client.get(FILES)).json()["items"]
    assert listed == known | {"contentType": "image/png", "uploadedBy": "a-1", "createdAt": listed["createdAt"]}
    assert answer.headers["location"] == known["url"]
    assert stored() == [f"files/{known['fileName']}"]
    fetched = await client.get(known["url"])
    assert (fetched.status_code, fetched.content) == (200, PNG)
    headers = ("content-type", "content-disposition", "x-content-type-options", "content-length", "accept-ranges")
    assert [fetched.headers[name] for name in headers] == [
        "image/png",
        "attachment; filename=\"Gru__e von Ada.png\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20von%20Ada.png",
        "nosniff",
        str(len(PNG)),
        "bytes",
    ]


async def test_the_allowed_types_are_taken_and_the_category_is_general_where_none_is_named(client):
    for extension, content in CONTENTS.items():
        known = await left(client, f"a.{extension}", content)
        assert known["fileName"].startswith("general/")
        fetched = await client.get(known["url"])
        assert (fetched.content, known["fileName"].rpartition(".")[2]) == (content, extension)


async def test_what_is_no_file_of_an_allowed_type_is_refused_and_nothing_of_it_stays(client, rows, stored):
    in_parts = 'Content-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-1.7'
    a_field = 'Content-Disposition: form-data; name="{}"\r\n\r\n1'
    refused = {
        "empty": (await leave(client, "a.pdf", b""), 422, "invalid-request"),
        "no extension": (await leave(client, "pdf", CONTENTS["pdf"]), 415, "file-type-not-allowed"),
        "another extension": (await leave(client, "a.pdf.exe", CONTENTS["pdf"]), 415, "file-type-not-allowed"),
        "unknown content": (await leave(client, "a.png", b"hello"), 422, "invalid-request"),
        "another type's": (await leave(client, "a.jpg", PNG), 422, "invalid-request"),
        "a page": (await leave(client, "a.pdf", b"<html><script>1</script>"), 422, "invalid-request"),
        "a zip": (await leave(client, "a.docx", docx("word.xml", "[Content_Types].xml")), 422, "invalid-request"),
        "a sheet": (await leave(client, "a.docx", docx("xl/a.xml", "[Content_Types].xml")), 422, "invalid-request"),
        "half a zip": (await leave(client, "a.docx", CONTENTS["docx"][:-9]), 422, "invalid-request"),
        "macros": (
            await leave(client, "a.docx", docx("word/document.xml", "[Content_Types].xml", "word/vbaProject.bin")),
            422,
            "invalid-request",
        ),
        "category": (await leave(client, params={"category": "../a"}), 422, "invalid-request"),
        "JSON": (await client.post(FILES, json={"file": "a"}), 415, "unsupported-media-type"),
        "no boundary": (
            await client.post(FILES, content=b"1", headers={"Content-Type": "multipart/form-data"}),
            400,
            "malformed-multipart",
        ),
        "no form": (await client.post(FILES, **{**form(), "content": b"hello"}), 400, "malformed-multipart"),
        "nothing": (await client.post(FILES, **{**form(), "content": b""}), 400, "malformed-multipart"),
        "not whole": (
            await client.post(FILES, **{**form(), "content": b"--b\r\n" + in_parts.encode()}),
            400,
            "malformed-multipart",
        ),
        "no file": (
            await client.post(FILES, **form(a_field.format("a"))),
            422,
            "invalid-request",
        ),
        "a field": (
            await client.post(FILES, **form(a_field.format("file"))),
            422,
            "invalid-request",
        ),
        "two files": (await client.post(FILES, **form(in_parts, in_parts)), 422, "invalid-request"),
    }

    wrong = [name for name, (answer, status, kind) in refused.items() if said(answer) != (status, kind)]
    assert wrong == []
    assert (rows("SELECT * FROM files"), stored()) == ([], [])


async def test_a_file_is_counted_while_it_comes(running, rows, stored):
    def pdf(size: int) -> bytes:
        return b"%PDF-1.7" + b"1" * (size - 8)

    async def unannounced(content: bytes) -> AsyncIterator[bytes]:
        wanted = form('Content-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%')
        before, after = wanted["content"].split(b"%")
        for chunk in (before, content, after):
            yield chunk

    async with running(max_file_bytes=EXACTLY) as client:
        assert (await leave(client, "a.pdf", pdf(EXACTLY))).status_code == 201
        known, files = rows("SELECT id FROM files"), stored()
        for size in (MORE, MORE + 20_000, 10 * MORE):
            assert said(await leave(client, "a.pdf", pdf(size))) == (413, "body-too-large")
            assert said(await client.post(FILES, **{**form(), "content": unannounced(pdf(size))})) == (
                413,
                "body-too-large",
            )

    assert (rows("SELECT id FROM files"), stored()) == (known, files)


async def test_the_name_that_a_file_comes_with_leads_nowhere(client, stored):
    names = {
        "../../../etc/passwd.png": ("../../../etc/passwd.png", "_.._.._etc_passwd.png"),
        "C:\\windows\\a.png": ("a.png", "a.png"),
        "a\\b/c.png": ("a\\b/c.png", "a_b_c.png"),
        "a\x00b\nc.png": ("abc.png", "abc.png"),
        "n" * 296 + ".png": ("n" * 251 + ".png", "n" * 100 + ".png"),
        "\u202egnp.exe.png": ("\u202egnp.exe.png", "gnp.exe.png"),
        '";x=.png': ('";x=.png', "_;x=.png"),
        ".png.PNG": (".png.PNG", "png.png"),
        "\u202e.png": ("\u202e.png", "file.png"),
    }
    wrong: list[str] = []
    for name, (kept, sent) in names.items():
        raw = name.replace("\\", "\\\\").replace('"', '\\"')
        part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + raw.encode() + b'"\r\n\r\n' + PNG
        wanted = {**form(), "content": part + b"\r\n--b--\r\n"}
        if "\n" in name:
            wanted["content"] = wanted["content"].replace(b"b\nc", b"b\x1bc")
        answer = await client.post(FILES, **wanted)
        assert answer.status_code == 201, (name, answer.text)
        known = answer.json()
        disposition = (await client.get(known["url"])).headers["content-disposition"]
        if known["originalFileName"] != kept or f'filename="{sent}"' not in disposition or not disposition.isascii():
            wrong.append(f"{name!r}: {known['originalFileName']!r}, {disposition}")
    assert wrong == []
    assert all(len(name) == len("files/general/") + 36 + 4 for name in stored())


async def test_a_range_of_it_is_sent_to_whoever_asks_for_one(client):
    url = (await left(client))["url"]
    etag = (await client.get(url)).headers["etag"]
    size = len(PNG)

    asked = {
        "bytes=0-9": (206, PNG[:10], f"bytes 0-9/{size}"),
        "bytes=10-": (206, PNG[10:], f"bytes 10-{size - 1}/{size}"),
        "bytes=-5": (206, PNG[-5:], f"bytes {size - 5}-{size - 1}/{size}"),
        f"bytes=-{size + 9}": (206, PNG, f"bytes 0-{size - 1}/{size}"),
        f"bytes=5-{size + 9}": (206, PNG[5:], f"bytes 5-{size - 1}/{size}"),
        f"bytes={size - 1}-{size - 1}": (206, PNG[-1:], f"bytes {size - 1}-{size - 1}/{size}"),
        "bytes=0-1,5-6": (200, PNG, None),
        "bytes=9-5": (200, PNG, None),
        "bytes=-": (200, PNG, None),
        "lines=1-2": (200, PNG, None),
    }
    wrong: list[str] = []
    for wanted, (status, content, range_) in asked.items():
        answer = await client.get(url, headers={"Range": wanted})
        if (answer.status_code, answer.content, answer.headers.get("content-range")) != (status, content, range_):
            wrong.append(wanted)
        if answer.headers["content-length"] != str(len(content)):
            wrong.append(f"{wanted}, its length")
    assert wrong == []
    for beyond in (f"bytes={size}-", "bytes=-0"):
        refused = await client.get(url, headers={"Range": beyond})
        assert (*said(refused), refused.headers["content-range"]) == (416, "range-not-satisfiable", f"bytes */{size}")
    same = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": etag})
    other = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (same.content, other.content) == (PNG[:10], PNG)


async def test_whoever_has_it_already_is_told_so_and_head_tells_all_but_the_content(client):
    url = (await left(client))["url"]
    etag = (await client.get(url)).headers["etag"]

    for known in (etag, f'"other", W/{etag}', "*"):
        answer = await client.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert (await client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200
    head = await client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(PNG)))


async def test_a_file_is_its_uploaders_and_an_admins(client, told):
    url = (await left(client, headers=told("u-1")))["url"]
    who = {
        "its uploader": (told("u-1"), 200, ""),
        "an admin": (told("a-1", "admin"), 200, ""),
        "another user": (told("u-2"), 403, "not-owner"),
        "staff": (told("s-1", "staff"), 403, "not-owner"),
        "another tenant's admin": (told("a-1", "admin", tenant="other"), 403, "different-tenant"),
        "nobody": ({"Authorization": ""}, 401, "unauthenticated"),
    }

    for name, (headers, status, kind) in who.items():
        answer = await client.get(url, headers=headers)
        assert answer.status_code == status, name
        assert status == 200 or said(answer)[1] == kind, name
        if status != 200:
            assert (await client.delete(url, headers=headers)).status_code == status, name
    assert (await client.get(url)).status_code == 200


async def test_one_sees_ones_own_newest_first_and_an_admin_the_tenants(client, told):
    mine = [(await left(client, f"{n}.png", headers=told("u-1")))["fileName"] for n in range(3)]
    others = (await left(client, params={"category": "cups"}, headers=told("u-2")))["fileName"]
    await left(client, headers=told("u-1", tenant="other"))

    async def listed(headers: Any = None, **wanted: Any) -> tuple[list[str], str | None]:
        page = (await client.get(FILES, params=wanted, headers=headers)).raise_for_status().json()
        return [file["fileName"] for file in page["items"]], page["next"]

    first, cursor = await listed(told("u-1"), limit=2)
    assert first == [mine[2], mine[1]]
    assert await listed(told("u-1"), limit=2, cursor=cursor) == ([mine[0]], None)
    assert await listed() == ([others, *reversed(mine)], None)
    assert await listed(category="cups") == ([others], None)
    assert await listed(told("s-1", "staff")) == ([], None)
    assert said(await client.get(FILES, params={"cursor": "1"})) == (422, "invalid-request")


async def test_a_deleted_file_is_gone_and_what_never_was_one_is_not_found(client, rows, stored):
    url = (await left(client))["url"]
    other = (await left(client))["url"]

    assert (await client.delete(url)).status_code == 204

    assert (len(rows("SELECT * FROM files")), len(stored())) == (1, 1)
    never = [url, other.replace("general", "other"), other.replace(".png", ".jpg"), f"{FILES}/general/a.png"]
    for missing in [*never, f"{FILES}/general/..%2F..%2Fa.png", f"{other}%00", f"{FILES}/%00/{'1' * 36}.png"]:
        assert said(await client.get(missing)) == (404, "file-not-found"), missing
        assert said(await client.delete(missing)) == (404, "file-not-found"), missing
    assert (await client.get(other)).status_code == 200


async def test_while_the_storage_is_down_nothing_is_taken_and_what_is_deleted_goes_later(
    client, settings, database, rows, stored
):
    url = (await left(client))["url"]
    folder, away = database.parent / "storage" / "files", database.parent / "away"
    folder.rename(away)
    folder.write_text("in the way")

    assert said(await leave(client)) == (503, "storage-unavailable")
    assert said(await client.get(url)) == (503, "storage-unavailable")
    assert (await client.delete(url)).status_code == 204
    assert said(await client.get(url)) == (404, "file-not-found")
    assert [row.status for row in rows("SELECT status FROM files")] == ["deleted", "deleted"]
    folder.unlink()
    away.rename(folder)

    await client.post("/job/FileSweep", headers={"dapr-api-token": settings.app_api_token})
    await eventually(lambda: not rows("SELECT * FROM files") and not stored())
