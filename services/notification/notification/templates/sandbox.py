"""Templates as data: a small language of Jinja's that cannot be used to reach, to run for ever or to fill memory.

Tenants' administrators write templates, so a template is input. What it may say is an allow-list: output, `if`, `for`,
`set`, the shipped partials, and the filters and tests of `filters`. There are no calls (so no methods, no `range`, no
macros), no attributes but the keys of its context, nothing that turns escaping off, no `**`, and no repetition but
`for` over the context's own lists. What remains is metered: before every step of a loop, filter and operation the
processor time is looked at, and every text made is measured.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, cast

from jinja2 import FileSystemLoader, StrictUndefined, Template, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from chassis.problems import FieldProblem
from notification.templates.filters import FILTERS, INTERNAL, TESTS, item, text
from notification.templates.limits import TooMuch, measured, run_of
from notification.templates.shipped import PARTIALS, PARTS, Source

GIVEN = "locale"  # in every context: the tag of the locale it is rendered in
LONGEST_SOURCE = 100_000
_TOKENS = 10_000  # compiled in half a second at most
_DEEPEST = 40
_LARGEST = 10**15

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
_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "a call",
    nodes.Pow: "**",
    nodes.AssignBlock: "set with a block",
    nodes.FilterBlock: "a filter block",
    nodes.Scope: "autoescape",
}
_SPARED = frozenset({"default", "d", "defined", "undefined"})
_LOOP = frozenset({"index", "index0", "first", "last", "length"})


class BadTemplate(Exception):
    """It is no template. `errors` point at its parts and quote nothing but the template."""

    def __init__(self, errors: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


@lru_cache(maxsize=256)
def compile_template(source: Source) -> Mapping[str, Template]:
    """Its parts that are not empty. Raises BadTemplate with what is wrong with every part, and its line."""
    parts: dict[str, Template] = {}
    errors: list[FieldProblem] = []
    for part in PARTS:
        if written := getattr(source, part):
            try:
                parts[part] = _compiled(part, written)
            except BadTemplate as bad:
                errors += bad.errors
    if errors:
        raise BadTemplate(errors)
    return parts


def _compiled(part: str, written: str) -> Template:
    language = _language_of(part)
    try:
        # Counted before it is parsed, which takes a second for a hundred thousand.
        if len(written) > LONGEST_SOURCE or sum(1 for _ in islice(language.lex(written), _TOKENS)) == _TOKENS:
            wrong = ["too long"]
        else:
            tree = language.parse(written)
            if not (wrong := list(_refused(tree, language))):
                return language.from_string(tree)
    except TemplateSyntaxError as error:
        wrong = [f"line {error.lineno}: {error.message}"]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        # A thousand brackets, a number of thousands of digits, loops deeper than Python nests them.
        wrong = [f"no template: {type(error).__name__}"]
    raise BadTemplate([FieldProblem(pointer=f"/{part}", detail=detail) for detail in wrong])


# --- how it runs ---
class Language(ImmutableSandboxedEnvironment):
    """`html` is escaped, whatever a template says; it has the partials of its own kind."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})

    def __init__(self, *, html: bool) -> None:
        super().__init__(
            loader=FileSystemLoader(PARTIALS),
            autoescape=html,
            undefined=StrictUndefined,
            finalize=text,
            auto_reload=False,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.globals.clear()
        self.filters = {**FILTERS, **INTERNAL}
        self.tests = dict(TESTS)
        self.partials = frozenset(name for name in self.list_templates() if name.endswith(".html") is html)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        metered = _Meters().visit(source)
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
            return item(obj, argument)
        except (LookupError, TypeError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        run_of(context).tick()
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return measured(left + right)
        if not isinstance(left, int | float | Decimal) or not isinstance(right, int | float | Decimal):
            raise TypeError(f"{operator} is for numbers")
        result = super().call_binop(context, operator, left, right)
        if abs(result) > _LARGEST:
            raise TooMuch("size limit")
        return result


class _Meters(NodeTransformer):
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
        node.expr = _filtered(node.expr, "<tick>")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


_TEXT = Language(html=False)
_HTML = Language(html=True)


def _language_of(part: str) -> Language:
    return _HTML if part == "html" else _TEXT


def names_of(part: str, written: str) -> set[str]:
    """What it asks of its context, in whatever branch; not what it sets, or asks whether it is there, nor what partials
    ask: that is proven by rendering it."""
    tree = _language_of(part).parse(written)
    asked = [node for node in tree.find_all((nodes.Filter, nodes.Test)) if node.name in _SPARED]
    spared = {node.node.name for node in asked if isinstance(node.node, nodes.Name)}
    spared |= {cast("nodes.Name", node.target).name for node in tree.find_all(nodes.Assign)}
    return meta.find_undeclared_variables(tree) - spared - {GIVEN}


# --- what it refuses ---
def _refused(tree: nodes.Template, language: Language) -> Iterator[str]:
    """What in a tree is not of the language."""
    todo: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while todo:
        node, depth = todo.pop()
        if depth > _DEEPEST:
            yield f"line {node.lineno}: nested too deeply"
            return
        if why := _refusal(node, language):
            yield f"line {node.lineno}: {why}" if node.lineno else why
        else:
            todo.extend((child, depth + 1) for child in reversed(list(node.iter_child_nodes())))


def _refusal(node: nodes.Node, language: Language) -> str:
    match node:
        case nodes.Filter():
            known = node.name in FILTERS and node.node is not None and not (node.dyn_args or node.dyn_kwargs)
            return "" if known else f"no filter {node.name}; there are {', '.join(sorted(FILTERS))}"
        case nodes.Test():
            known = node.name in TESTS and not (node.dyn_args or node.dyn_kwargs)
            return "" if known else f"no test {node.name}; there are {', '.join(sorted(TESTS))}"
        case nodes.For() if node.recursive or not isinstance(node.target, nodes.Name):
            return "a loop has one name, and is not recursive"
        case nodes.Assign() if not isinstance(node.target, nodes.Name):
            return "set has one name"
        case nodes.List() | nodes.Tuple() if not all(isinstance(element, nodes.Const) for element in node.items):
            return "a list is written of constants only"
        case nodes.Include() if not node.with_context:
            return "a partial is included with its context"
        case nodes.Include() | nodes.Extends():
            name = node.template.value if isinstance(node.template, nodes.Const) else None
            return "" if name in language.partials else f"no partial but {', '.join(sorted(language.partials))}"
        case _:
            return "" if type(node) in _VOCABULARY else f"{_WORDS.get(type(node), type(node).__name__)} is not allowed"
