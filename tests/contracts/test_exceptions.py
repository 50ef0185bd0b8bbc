"""Whoever calls without a token shall not fill our memory: an exception that is made once, and raised again and again,
keeps the frames of every time, and with them the requests."""

import importlib
import pkgutil
from types import ModuleType

import chassis
import notification
import order
import payment


def modules():
    for package in (chassis, notification, order, payment):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." not in found.name and not found.name.endswith(".main"):
                yield importlib.import_module(found.name)


def made_before(module: ModuleType) -> list[str]:
    holders = [module, *(kind for kind in vars(module).values() if isinstance(kind, type))]
    return [
        f"{module.__name__}.{name}"
        for holder in holders
        for name, value in vars(holder).items()
        if isinstance(value, BaseException)
    ]


def test_no_exception_is_made_before_it_is_raised():
    assert [found for module in modules() for found in made_before(module)] == []
