"""Ways to change a class of moto that keep the original at hand."""

from typing import Any, Callable


def override(cls: type, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace the method `name`; the new one receives the original as its first argument."""
    original = getattr(cls, name)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            return function(original, self, *args, **kwargs)

        method.__name__ = name
        method.__doc__ = function.__doc__
        setattr(cls, name, method)
        return function

    return decorate


def add(cls: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a method under its own name."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(cls, function.__name__, function)
        return function

    return decorate


def page(items: list, limit: Any, token: Any) -> tuple:
    """One page of `items` and the token of the next. A token is the offset it starts at."""
    start = int(token or 0)
    end = start + int(limit) if limit else len(items)
    return items[start:end], (str(end) if end < len(items) else None)
