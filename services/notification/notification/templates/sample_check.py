"""Which names a template uses of its context, and which of them a sample has not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from jinja2 import nodes

from chassis.problems import FieldProblem
from notification.templates.filters import item
from notification.templates.sandbox import GIVEN, Language, language_of
from notification.templates.shipped import PARTS, Source

EACH = "[]"  # in a path: any item of a list
Path: TypeAlias = tuple[str | int, ...]
_Scope: TypeAlias = dict[str, Path | None]  # local names: what of the context they stand for; None is nothing of it


@dataclass(frozen=True, slots=True)
class Use:
    path: Path
    guards: frozenset[Path]  # what is known to be there, where it is used
    line: int


def missing(source: Source, sample: Mapping[str, Any]) -> list[FieldProblem]:
    """Every name that a compiled template uses and its sample has not, in whatever branch, save those behind
    `is defined` or `default`."""
    lines = {
        (part, wrong): use.line for part in PARTS for use in uses(source, part) if (wrong := _missing(sample, use))
    }
    return [FieldProblem(pointer=f"/{part}", detail=f"line {line}: {wrong}") for (part, wrong), line in lines.items()]


def uses(source: Source, part: str) -> list[Use]:
    language = language_of(part)
    reader = _Reader(language)
    reader.read(language.parse(getattr(source, part)), reader.top, frozenset())
    return [use for use in reader.uses if use.path != (GIVEN,)]


def dotted(path: Path) -> str:
    """`customer.name`; `items[].name` of a list's items."""
    text = ""
    for key in path:
        text += EACH if key == EACH else f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def _missing(sample: Mapping[str, Any], use: Use) -> str:
    """What the sample lacks for it, "" when nothing."""
    value: Any = sample
    for length, key in enumerate(use.path, start=1):
        there = use.path[:length]
        if key == EACH and isinstance(value, list | tuple) and not value:
            return f"{dotted(there[:-1])} is empty in the sample, which leaves {dotted(use.path)} unproven"
        try:
            value = item(value, 0 if key == EACH else key)
        except (LookupError, TypeError):
            guarded = any(guard[:length] == there for guard in use.guards)
            return "" if guarded else f"{dotted(there)} is not in the sample"
    return ""


class _Reader:
    """Finds the names a tree uses of its context."""

    def __init__(self, language: Language) -> None:
        self.uses: list[Use] = []
        self.top: _Scope = {}
        self._language = language

    def read(self, node: nodes.Node, scope: _Scope, guards: frozenset[Path]) -> None:
        if path := _path(node, scope):
            self.uses.append(Use(path, guards, node.lineno))
            return
        match node:
            case nodes.If():
                self._if(node, scope, guards)
            case nodes.For():
                self._for(node, scope, guards)
            case nodes.Assign():
                self.read(node.node, scope, guards)
                scope[cast("nodes.Name", node.target).name] = _path(node.node, scope)
            case nodes.Block():
                self._body(node.body, self.top, guards)
            case nodes.Include():
                self._body([self._language.partial(node)], scope, guards)
            case nodes.Extends():
                self._body([self._language.partial(node)], self.top, guards)
            case _:
                self._expression(node, scope, guards)

    def _expression(self, node: nodes.Node, scope: _Scope, guards: frozenset[Path]) -> None:
        match node:
            case nodes.And() | nodes.Or():
                self.read(node.left, scope, guards)
                self.read(node.right, scope, guards | _known(node.left, scope, truth=isinstance(node, nodes.And)))
            case nodes.CondExpr():
                self.read(node.test, scope, guards)
                self.read(node.expr1, scope, guards | _known(node.test, scope, truth=True))
                if node.expr2 is not None:
                    self.read(node.expr2, scope, guards | _known(node.test, scope, truth=False))
            case (
                nodes.Filter(name="default" | "d", node=nodes.Node() as of)
                | nodes.Test(name="defined" | "undefined", node=of)
            ):
                path = _path(of, scope)
                self._children(node, scope, guards | {path} if path else guards)
            case _:
                self._children(node, scope, guards)

    def _children(self, node: nodes.Node, scope: _Scope, guards: frozenset[Path]) -> None:
        for child in node.iter_child_nodes():
            self.read(child, scope, guards)

    def _if(self, node: nodes.If, scope: _Scope, guards: frozenset[Path]) -> None:
        branches: list[_Scope] = []
        for branch in (node, *node.elif_):
            self.read(branch.test, scope, guards)
            branches.append(self._body(branch.body, scope, guards | _known(branch.test, scope, truth=True)))
            guards |= _known(branch.test, scope, truth=False)
        branches.append(self._body(node.else_, scope, guards))
        # What every branch has set is set.
        scope.update(dict.fromkeys(set[str].intersection(*map(set, branches)) - set(scope)))

    def _for(self, node: nodes.For, scope: _Scope, guards: frozenset[Path]) -> None:
        self.read(node.iter, scope, guards)
        many = _path(node.iter, scope)
        each = (*many, EACH) if many else None
        inner, known = {**scope, cast("nodes.Name", node.target).name: each, "loop": None}, guards
        if node.test is not None:
            self.read(node.test, inner, guards)
            known |= _known(node.test, inner, truth=True)
        self._body(node.body, inner, known)
        self._body(node.else_, scope, guards)

    def _body(self, body: Iterable[nodes.Node], scope: _Scope, guards: frozenset[Path]) -> _Scope:
        own = dict(scope)
        for child in body:
            self.read(child, own, guards)
        return own


def _path(node: nodes.Node, scope: _Scope) -> Path | None:
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
    of = _path(cast("nodes.Node", node.node), scope)
    return None if of is None else (*of, key)


def _known(test: nodes.Node, scope: _Scope, *, truth: bool) -> frozenset[Path]:
    """What must be there where `test` came out as `truth`."""
    match test:
        case nodes.Test(name="defined" | "undefined") if (test.name == "defined") is truth:
            path = _path(test.node, scope)
            return frozenset({path} if path else ())
        case nodes.Not():
            return _known(test.node, scope, truth=not truth)
        case nodes.And() | nodes.Or() if isinstance(test, nodes.And) is truth:
            return _known(test.left, scope, truth=truth) | _known(test.right, scope, truth=truth)
        case _:
            return frozenset()
