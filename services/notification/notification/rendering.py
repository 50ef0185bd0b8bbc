"""Templates as data: a small language of Jinja's that cannot be used to reach, to run for ever or to fill memory.

Tenants' administrators write templates, so a template is input. What it may say is an allow-list: output, `if`, `for`,
`set`, the shipped partials, and the filters and tests below. There are no calls (so no methods, no `range`, no
macros), no attributes but the keys of its context, nothing that turns escaping off, no `**`, and no repetition but
`for` over the context's own lists. What remains is metered: every loop step, filter and operation counts against
a budget of steps and of processor time, and every text made is measured.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateSyntaxError, Undefined, nodes
from jinja2.filters import FILTERS as JINJAS
from jinja2.filters import do_title, do_truncate, do_urlencode
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS as JINJAS_TESTS
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from chassis.problems import FieldProblem
from notification import locales
from notification.domain import Rendered

SECONDS = 0.25  # of processor time, for all parts of one template together
STEPS = 50_000
LONGEST_VALUE = 65_536  # characters of any one text made on the way
LONGEST = {"subject": 65_536, "text": 65_536, "html": 500_000, "sms": 65_536, "push": 65_536}  # rendered, characters
LONGEST_SOURCE = 100_000
_TOKENS = 10_000
_NODES = 2_500
_DEEPEST = 40
_LARGEST = 10**15
_LONGEST_SUBJECT = 255
_GIVEN = "locale"  # in every context: the tag of the locale it is rendered in
_RUN = "<run>"  # no template can spell it

SHIPPED = Path(__file__).parent / "shipped" / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A template as it is written, each part a Jinja source; "" where it has none for that use."""

    subject: str = ""
    text: str = ""
    html: str = ""
    sms: str = ""
    push: str = ""


PARTS = tuple(part.name for part in fields(Source))


@dataclass(frozen=True, slots=True)
class Compiled:
    source: Source
    parts: Mapping[str, Template]  # those that are not empty


class BadTemplate(Exception):
    """It is no template. `errors` point at its parts and quote nothing but the template."""

    def __init__(self, errors: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


class NotRenderable(Exception):
    """Asks for what its context does not have, or for too much. Its text holds no personal data; `detail` is for the
    template's author and may quote the context."""

    def __init__(self, name: str, part: str, why: str, detail: str = "") -> None:
        super().__init__(f"template {name}/{part}: {why}")
        self.part = part
        self.detail = detail or why


def compile_template(source: Source) -> Compiled:
    """Raises BadTemplate with what is wrong with every part, and its line."""
    return _compile(source)


@lru_cache(maxsize=256)
def _compile(source: Source) -> Compiled:
    parts: dict[str, Template] = {}
    errors: list[FieldProblem] = []
    for part in PARTS:
        if text := getattr(source, part):
            try:
                parts[part] = _part(part, text)
            except BadTemplate as bad:
                errors += bad.errors
    if errors:
        raise BadTemplate(errors)
    return Compiled(source, parts)


def _part(part: str, text: str) -> Template:
    language = _language(part)
    try:
        # Counted before it is parsed, which takes a second for a hundred thousand.
        if len(text) > LONGEST_SOURCE or sum(1 for _ in islice(language.lex(text), _TOKENS)) == _TOKENS:
            wrong = ["too long"]
        else:
            tree = language.parse(text)
            if not (wrong := list(_refused(tree, language))):
                return language.from_string(tree)
    except TemplateSyntaxError as error:
        wrong = [f"line {error.lineno}: {error.message}"]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # A thousand brackets, a number of thousands of digits, loops deeper than Python nests them.
        wrong = [f"no template: {type(error).__name__}"]
    raise BadTemplate([FieldProblem(pointer=f"/{part}", detail=one) for one in wrong])


def render(
    template: Source | Compiled,
    context: Mapping[str, Any],
    *,
    locale: str,
    parts: Iterable[str] = PARTS,
    name: str = "",
) -> Rendered:
    """The `parts` the template has, the others ""; a subject is one line. `name` is for the error's text. Raises
    BadTemplate, NotRenderable."""
    compiled = template if isinstance(template, Compiled) else compile_template(template)
    tag = locales.fallbacks(locale)[0]
    run = _Run(tag)
    values = {**context, _GIVEN: tag, _RUN: run}
    made = {part: _render(compiled.parts[part], values, part, name) for part in parts if part in compiled.parts}
    return Rendered(**{part: _FIT.get(part, str)(text) for part, text in made.items()})


def _render(template: Template, values: dict[str, Any], part: str, name: str) -> str:
    try:
        return "".join(_chunks(template, values, LONGEST[part]))
    except _TooMuch as limit:
        raise NotRenderable(name, part, str(limit)) from None
    except Exception as error:  # noqa: BLE001  a template may fail in any way that Python can, and quote its context
        raise NotRenderable(name, part, type(error).__name__, str(error)) from None


def _chunks(template: Template, values: dict[str, Any], longest: int) -> Iterator[str]:
    # Not Template.render, which would copy the context and join whatever comes.
    for chunk in template.root_render_func(template.new_context(values, shared=True)):
        yield chunk
        if (longest := longest - len(chunk)) < 0:
            raise _TooMuch("size limit")


def one_line(text: str) -> str:
    """Fit for a header: a customer's name may hold line breaks and other controls, which would start a new one."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_LONGEST_SUBJECT]


def _sms(text: str) -> str:
    """CLDR writes amounts and times with spaces that GSM-7 has not: a single one would cost more than half the room."""
    return text.translate(_PLAIN_SPACES).strip()


_PLAIN_SPACES = dict.fromkeys(map(ord, "\u00a0\u2009\u202f"), " ")
_FIT: Mapping[str, Callable[[str], str]] = {"subject": one_line, "sms": _sms, "push": str.strip}


# --- what a template needs ---

EACH = "[]"  # in a path: any item of a list
_Path: TypeAlias = tuple[str | int, ...]
_Scope: TypeAlias = dict[str, _Path | None]  # local names: what of the context they stand for; None is nothing of it


@dataclass(frozen=True, slots=True)
class _Use:
    path: _Path
    guards: frozenset[_Path]  # what is known to be there, where it is used
    line: int


def variables(source: Source) -> frozenset[str]:
    """Every name a template uses of its context, dotted: `customer.name`, and `items[].name` of a list's items. Raises
    BadTemplate."""
    compile_template(source)
    return frozenset(_dotted(use.path) for part in PARTS for use in _uses(part, getattr(source, part)))


def check(source: Source, sample: Mapping[str, Any], *, locale: str = locales.DEFAULT) -> list[FieldProblem]:
    """What keeps a template from being published: what is wrong with its text; every name that the sample has not,
    in whatever branch, save those behind `is defined` or `default`; what goes wrong when it is rendered with it."""
    try:
        compiled = compile_template(source)
    except BadTemplate as bad:
        return bad.errors
    problems: dict[tuple[str, str], FieldProblem] = {}
    for part in compiled.parts:
        for use in _uses(part, getattr(source, part)):
            if wrong := _missing(sample, use):
                problems[part, wrong] = FieldProblem(pointer=f"/{part}", detail=f"line {use.line}: {wrong}")
    if not problems:
        for part in compiled.parts:
            try:
                render(compiled, sample, locale=locale, parts=[part])
            except NotRenderable as error:
                problems[part, ""] = FieldProblem(pointer=f"/{part}", detail=error.detail)
    return list(problems.values())


def _uses(part: str, text: str) -> list[_Use]:
    reader = _Reader(_language(part))
    reader.read(_language(part).parse(text), reader.top, frozenset())
    return [use for use in reader.uses if use.path != (_GIVEN,)]


def _missing(sample: Mapping[str, Any], use: _Use) -> str:
    """What the sample lacks for it, "" when nothing."""
    value: Any = sample
    for length, key in enumerate(use.path, start=1):
        there = use.path[:length]
        if key == EACH and isinstance(value, list | tuple) and not value:
            return f"{_dotted(there[:-1])} is empty in the sample, which leaves {_dotted(use.path)} unproven"
        try:
            value = _item(value, 0 if key == EACH else key)
        except (LookupError, TypeError):
            guarded = any(guard[:length] == there for guard in use.guards)
            return "" if guarded else f"{_dotted(there)} is not in the sample"
    return ""


def _dotted(path: _Path) -> str:
    text = ""
    for key in path:
        text += EACH if key == EACH else f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


class _Reader:
    """Finds the names a tree uses of its context."""

    def __init__(self, language: "_Language") -> None:
        self.uses: list[_Use] = []
        self.top: _Scope = {}
        self._language = language

    def read(self, node: nodes.Node, scope: _Scope, guards: frozenset[_Path]) -> None:
        if path := self._path(node, scope):
            self.uses.append(_Use(path, guards, node.lineno))
            return
        match node:
            case nodes.If():
                self._if(node, scope, guards)
            case nodes.For():
                self._for(node, scope, guards)
            case nodes.Assign():
                self.read(node.node, scope, guards)
                scope[cast("nodes.Name", node.target).name] = self._path(node.node, scope)
            case nodes.Block():
                self._body(node.body, self.top, guards)
            case nodes.Include():
                self._body([self._language.partial(node)], scope, guards)
            case nodes.Extends():
                self._body([self._language.partial(node)], self.top, guards)
            case _:
                self._expression(node, scope, guards)

    def _expression(self, node: nodes.Node, scope: _Scope, guards: frozenset[_Path]) -> None:
        match node:
            case nodes.And() | nodes.Or():
                self.read(node.left, scope, guards)
                self.read(node.right, scope, guards | self._known(node.left, scope, truth=isinstance(node, nodes.And)))
            case nodes.CondExpr():
                self.read(node.test, scope, guards)
                self.read(node.expr1, scope, guards | self._known(node.test, scope, truth=True))
                if node.expr2 is not None:
                    self.read(node.expr2, scope, guards | self._known(node.test, scope, truth=False))
            case (
                nodes.Filter(name="default" | "d", node=nodes.Node() as of)
                | nodes.Test(name="defined" | "undefined", node=of)
            ):
                path = self._path(of, scope)
                self._children(node, scope, guards | {path} if path else guards)
            case _:
                self._children(node, scope, guards)

    def _children(self, node: nodes.Node, scope: _Scope, guards: frozenset[_Path]) -> None:
        for child in node.iter_child_nodes():
            self.read(child, scope, guards)

    def _if(self, node: nodes.If, scope: _Scope, guards: frozenset[_Path]) -> None:
        branches: list[_Scope] = []
        for branch in (node, *node.elif_):
            self.read(branch.test, scope, guards)
            branches.append(self._body(branch.body, scope, guards | self._known(branch.test, scope, truth=True)))
            guards |= self._known(branch.test, scope, truth=False)
        branches.append(self._body(node.else_, scope, guards))
        # What every branch has set is set.
        scope.update(dict.fromkeys(set[str].intersection(*map(set, branches)) - set(scope)))

    def _for(self, node: nodes.For, scope: _Scope, guards: frozenset[_Path]) -> None:
        self.read(node.iter, scope, guards)
        many = self._path(node.iter, scope)
        each = (*many, EACH) if many else None
        inner = {**scope, cast("nodes.Name", node.target).name: each, "loop": None}
        if node.test is not None:
            self.read(node.test, inner, guards)
            guards |= self._known(node.test, inner, truth=True)
        self._body(node.body, inner, guards)
        self._body(node.else_, scope, guards)

    def _body(self, body: Iterable[nodes.Node], scope: _Scope, guards: frozenset[_Path]) -> _Scope:
        own = dict(scope)
        for child in body:
            self.read(child, own, guards)
        return own

    def _path(self, node: nodes.Node, scope: _Scope) -> _Path | None:
        """What of the context an expression stands for, None when that cannot be told from the text."""
        match node:
            case nodes.Name():
                return scope.get(node.name, (node.name,))
            case nodes.Getattr():
                key: Any = node.attr
            case nodes.Getitem(arg=nodes.Const(value=str() | int() as key)):
                pass
            case nodes.Filter(name="first" | "last"):
                key = EACH
            case _:
                return None
        of = self._path(cast("nodes.Node", node.node), scope)
        return None if of is None else (*of, key)

    def _known(self, test: nodes.Node, scope: _Scope, *, truth: bool) -> frozenset[_Path]:
        """What must be there where `test` came out as `truth`."""
        match test:
            case nodes.Test(name="defined" | "undefined") if (test.name == "defined") is truth:
                path = self._path(test.node, scope)
                return frozenset({path} if path else ())
            case nodes.Not():
                return self._known(test.node, scope, truth=not truth)
            case nodes.And() | nodes.Or() if isinstance(test, nodes.And) is truth:
                return self._known(test.left, scope, truth=truth) | self._known(test.right, scope, truth=truth)
            case _:
                return frozenset()


# --- the language ---

_VOCABULARY = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign),
        *(nodes.Block, nodes.Include, nodes.Extends),
        *(nodes.Const, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.List, nodes.Tuple),
        *(nodes.Filter, nodes.Test, nodes.Keyword, nodes.CondExpr, nodes.Compare, nodes.Operand),
        *(nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos),
        *(nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    }
)
_LOOP = frozenset({"index", "index0", "first", "last", "length"})


class _TooMuch(Exception):
    """A limit was reached; its text says which."""


class _Run:
    """One rendering: its locale, and what it has used up."""

    __slots__ = ("_deadline", "_steps", "locale")

    def __init__(self, locale: str) -> None:
        self.locale = locale
        self._steps = 0
        self._deadline = time.thread_time() + SECONDS

    def tick(self) -> None:
        """One step. It may take a millisecond at most, so the clock, which is a system call, is asked now and then."""
        self._steps += 1
        if self._steps > STEPS or (self._steps % 4 == 0 and time.thread_time() > self._deadline):
            raise _TooMuch("time limit")


def _run(context: Context) -> _Run:
    return context.resolve_or_missing(_RUN)


class _Language(ImmutableSandboxedEnvironment):
    """`html` is escaped, whatever a template says; it has the partials of its own kind."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self, *, html: bool) -> None:
        super().__init__(
            loader=FileSystemLoader(SHIPPED / "_partials"),
            autoescape=html,
            undefined=StrictUndefined,
            finalize=_printed,
            auto_reload=False,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.globals.clear()
        self.filters = {**_FILTERS, **_INTERNAL}
        self.tests = dict(_TESTS)
        self.partials = frozenset(
            path.name for path in (SHIPPED / "_partials").iterdir() if (path.suffix == ".html") is html
        )

    def partial(self, node: nodes.Include | nodes.Extends) -> nodes.Template:
        """The tree of what is included or extended."""
        name = cast("nodes.Const", node.template).value
        return self.parse(cast("Any", self.loader).get_source(self, name)[0])

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        metered = _Metered().visit(source)
        metered.set_environment(self)
        return super()._generate(metered, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A key of the context, never an attribute of Python's: `order.items` is what the event calls so."""
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj  # so that `a.b is defined` may be asked of what has no `a`
        try:
            return _item(obj, argument)
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _run(context).tick()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return _measured(left + right)
        if not isinstance(left, int | float | Decimal) or not isinstance(right, int | float | Decimal):
            raise TypeError(f"{operator} is for numbers")
        result = super().call_binop(context, operator, left, right)
        if abs(result) > _LARGEST:
            raise _TooMuch("size limit")
        return result


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping | list | tuple) or (isinstance(value, str) and not isinstance(key, str)):
        return cast("Any", value)[key]
    raise TypeError("has no items")


def _language(part: str) -> _Language:
    return _TEXT if part != "html" else _HTML


class _Metered(NodeTransformer):
    """Puts a meter wherever a template's work is not bounded by its length."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        node = cast("nodes.For", self.generic_visit(node))
        node.iter = _filtered(node.iter, "<each>")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802
        node = cast("nodes.Concat", self.generic_visit(node))
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "<concat>")

    def visit_Operand(self, node: nodes.Operand) -> nodes.Operand:  # noqa: N802
        node = cast("nodes.Operand", self.generic_visit(node))
        if node.op in {"in", "notin"}:
            node.expr = _filtered(node.expr, "<tick>")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _refused(tree: nodes.Template, language: _Language) -> Iterator[str]:
    """What in a tree is not of the language."""
    todo: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while todo:
        node, depth = todo.pop()
        count += 1
        if count > _NODES or depth > _DEEPEST:
            yield "too long" if count > _NODES else f"line {node.lineno}: nested too deeply"
            return
        if why := _refusal(node, language):
            yield f"line {node.lineno}: {why}" if node.lineno else why
        else:
            todo.extend((child, depth + 1) for child in reversed(list(node.iter_child_nodes())))


def _refusal(node: nodes.Node, language: _Language) -> str:
    match node:
        case nodes.Filter():
            known = node.name in _FILTERS and node.node is not None and not (node.dyn_args or node.dyn_kwargs)
            return "" if known else f"no filter {node.name}; there are {', '.join(sorted(_FILTERS))}"
        case nodes.Test():
            known = node.name in _TESTS and not (node.dyn_args or node.dyn_kwargs)
            return "" if known else f"no test {node.name}; there are {', '.join(sorted(_TESTS))}"
        case nodes.For() if node.recursive or not isinstance(node.target, nodes.Name):
            return "a loop has one name, and is not recursive"
        case nodes.Assign() if not isinstance(node.target, nodes.Name):
            return "set has one name"
        case nodes.List() | nodes.Tuple() if not all(isinstance(item, nodes.Const) for item in node.items):
            return "a list is written of constants only"
        case nodes.Include() if not node.with_context:
            return "a partial is included with its context"
        case nodes.Include() | nodes.Extends():
            name = node.template.value if isinstance(node.template, nodes.Const) else None
            return "" if name in language.partials else f"no partial but {', '.join(sorted(language.partials))}"
        case _:
            return "" if type(node) in _VOCABULARY else f"{_WORDS.get(type(node), type(node).__name__)} is not allowed"


_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "a call",
    nodes.Pow: "**",
    nodes.AssignBlock: "set with a block",
    nodes.FilterBlock: "a filter block",
    nodes.Scope: "autoescape",
}


# --- values, filters, tests ---


def _printed(value: Any) -> Any:
    """What is put out: null is nothing, and a list or mapping as Python writes it is a mistake."""
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float | Decimal | Undefined):
        raise TypeError(f"{type(value).__name__} where text was expected")
    return _measured(str(value))  # of what is undefined it raises, and names it


def _measured(text: str) -> str:
    if len(text) > LONGEST_VALUE:
        raise _TooMuch("size limit")
    return text


def _metered(function: Callable[..., Any], *, located: bool = False) -> Callable[..., Any]:
    """A filter that counts as a step and makes no text too long; `located` ones are told the locale."""

    @pass_context
    def call(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        run = _run(context)
        run.tick()
        if isinstance(value, Undefined):
            str(value)
        if located:
            kwargs["locale"] = run.locale
        result = function(value, *args, **kwargs)
        return _measured(result) if isinstance(result, str) else result

    return call


@pass_context
def _each(context: Context, value: Any) -> Iterator[Any]:
    if isinstance(value, Undefined) or not isinstance(value, list | tuple | Mapping):
        _text(value)
        raise TypeError("a loop is over a list")
    run = _run(context)
    for item in cast("Iterable[Any]", value):
        run.tick()
        yield item


def _join(value: Any, separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    left = LONGEST_VALUE
    for item in value:
        parts.append(_text(item if attribute is None else _item(item, attribute)))
        if (left := left - len(parts[-1]) - len(separator)) < 0:
            raise _TooMuch("size limit")
    return _text(separator).join(parts)


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    if len(text) + text.count(old) * (len(new) - len(old)) > LONGEST_VALUE:
        raise _TooMuch("size limit")
    return text.replace(old, new)


def _truncate(value: Any, length: int = 255, killwords: bool = False, end: str = "...") -> str:
    return do_truncate(_TEXT, _text(value), length, killwords, end, 0)


def _first(value: Any) -> Any:
    return _item(value, 0)


def _last(value: Any) -> Any:
    return _item(value, -1)


def _textual(function: Callable[[str], str]) -> Callable[..., Any]:
    def of_text(value: Any) -> str:
        return function(_text(value))

    return _metered(of_text)


# Jinja's own take the remainder of anything, and that of a text is its formatting, to any width.
def _even(value: Any) -> bool:
    return isinstance(value, int) and value % 2 == 0


def _odd(value: Any) -> bool:
    return isinstance(value, int) and value % 2 == 1


def _same(value: Any) -> Any:
    return value


_FILTERS: Mapping[str, Callable[..., Any]] = {
    **dict.fromkeys(("default", "d"), cast("Callable[..., Any]", JINJAS["default"])),
    **dict.fromkeys(("length", "count"), _metered(len)),
    "capitalize": _textual(str.capitalize),
    "date": _metered(locales.day, located=True),
    "datetime": _metered(locales.moment, located=True),
    "first": _metered(_first),
    "join": _metered(_join),
    "last": _metered(_last),
    "lower": _textual(str.lower),
    "money": _metered(locales.money, located=True),
    "number": _metered(locales.number, located=True),
    "replace": _metered(_replace),
    "title": _textual(do_title),
    "trim": _textual(str.strip),
    "truncate": _metered(_truncate),
    "upper": _textual(str.upper),
    "urlencode": _textual(do_urlencode),
}
_INTERNAL: Mapping[str, Callable[..., Any]] = {
    "<concat>": _metered(_join),
    "<each>": _each,
    "<tick>": _metered(_same),
}
_TESTS: Mapping[str, Callable[..., Any]] = {
    **{
        name: cast("Callable[..., Any]", JINJAS_TESTS[name])
        for name in ("defined", "undefined", "none", "true", "false", "string", "number", "mapping")
    },
    "even": _even,
    "odd": _odd,
}

_TEXT = _Language(html=False)
_HTML = _Language(html=True)


# --- what ships ---

_FILES = {"subject.txt": "subject", "body.txt": "text", "body.html": "html", "sms.txt": "sms", "push.txt": "push"}


@cache
def shipped() -> Mapping[tuple[str, str], Mapping[str, Source]]:
    """(category, name) → locale → the template of `shipped/templates/<category>/<name>/<locale>/`."""
    return MappingProxyType(
        {
            _key(folder): MappingProxyType(
                {path.name: _source(path) for path in sorted(folder.iterdir()) if path.is_dir()}
            )
            for folder in _folders()
        }
    )


@cache
def samples() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """(category, name) → the data of an event that the template is for: its `sample.json`."""
    return MappingProxyType({_key(folder): json.loads((folder / "sample.json").read_text()) for folder in _folders()})


def _folders() -> list[Path]:
    return sorted(path.parent for path in SHIPPED.glob("*/*/sample.json"))


def _key(folder: Path) -> tuple[str, str]:
    return folder.parent.name, folder.name


def _source(folder: Path) -> Source:
    return Source(**{part: (folder / file).read_text() for file, part in _FILES.items() if (folder / file).exists()})
