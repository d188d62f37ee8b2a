"""Nothing that moto answers is changed here, only how long it takes to.

Each of these costs more with every account or every row, and the laws make hundreds of both.
"""

import copy
import functools
import threading
from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import xmltodict
from moto.core import responses
from moto.core.serialize import XFormedAttributePicker
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.table import Table
from moto.iam import models as iam
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from .patch import override

_known: dict = {}
_find_account = iam.get_account_id_from


def _account_of(access_key: str) -> str:
    """moto looks a key up in every account there is, twice a request. A key never changes its account."""
    found = _known.get(access_key)
    if found is None:
        found = _find_account(access_key)
        # A key that belongs to nobody yet may be given to somebody.
        if any(access_key in backend.access_keys for backend in iam.iam_backends[found].values()):
            _known[access_key] = found
    return found


_candidates: dict = {}


@override(XFormedAttributePicker, "get_possible_keys")
def _get_possible_keys(original: Any, self: XFormedAttributePicker, context: Any) -> tuple:
    """Under which names the value of a member may stand in an object: the same for every object of a class."""
    parent = getattr(context.shape, "parent", None)
    which = (
        context.service_model.service_name,
        type(context.obj),
        getattr(parent, "name", None),
        getattr(context.shape, "name", None),
        context.key,
    )
    names = _candidates.get(which)
    if names is None:
        names = _candidates[which] = tuple(dict.fromkeys(original(self, context)))
    return names


_method_names = functools.lru_cache(maxsize=None)(responses.method_names_from_class)

_transaction = threading.local()


@override(DynamoDBBackend, "transact_write_items")
def _transact_write_items(original: Any, self: DynamoDBBackend, transact_items: list) -> None:
    """moto copies whole tables for each item of a transaction, to put them back if it fails. The rows that the
    transaction names are enough.
    """
    kept = [rows for rows in (_rows(self, item) for item in transact_items) if rows]
    _transaction.under_way = True
    try:
        original(self, transact_items)
    except Exception:
        for rows, key, row in kept:
            if row is None:
                rows.pop(key, None)
            else:
                rows[key] = row
        raise
    finally:
        _transaction.under_way = False


def _rows(backend: DynamoDBBackend, item: dict) -> Any:
    """Where the row of a transaction's item is, under which key, and a copy of it; nothing if there is no such
    table or the item has no key, which moto refuses before it changes anything.
    """
    op = next(iter(item.values()))
    table = backend.tables.get(op.get("TableName"))
    if table is None:
        return None
    try:
        partition, sort = backend.get_keys_value(table, op.get("Key") or op["Item"])
    except Exception:
        return None
    rows, key = (table.items, partition) if sort is None else (table.items[partition], sort)
    return rows, key, copy.deepcopy(rows.get(key))


def _copy_table(self: Table, memo: dict) -> Table:
    if getattr(_transaction, "under_way", False):
        return self
    made = self.__class__.__new__(self.__class__)
    memo[id(self)] = made
    made.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
    return made


_asked = threading.local()


@override(Table, "query")
def _query(original: Any, self: Table, partition: Any, *given: Any, **more: Any) -> Any:
    """moto sorts all rows of a table and then looks for those of the partition."""
    of_an_index = (given[6] if len(given) > 6 else more.get("index_name")) is not None
    _asked.partition = None if of_an_index else partition
    try:
        return original(self, partition, *given, **more)
    finally:
        _asked.partition = None


@override(Table, "all_items")
def _all_items(original: Any, self: Table) -> list:
    partition = getattr(_asked, "partition", None)
    if partition is None or not self.range_key_attr:
        return original(self)
    return list(self.items.get(partition, {}).values())


_valid_name = functools.lru_cache(maxsize=None)(xmltodict._validate_name)


@override(xmltodict, "unparse")
def _unparse(original: Any, document: dict, *given: Any, **more: Any) -> Any:
    """An eighth of what answering takes: every element goes through a handler of events."""
    full, short = more.get("full_document", True), more.get("short_empty_elements", False)
    usual = {"full_document", "short_empty_elements", "pretty"}
    if given or not usual.issuperset(more) or more.get("pretty") or len(document) != 1:
        return original(document, *given, **more)
    parts = ['<?xml version="1.0" encoding="utf-8"?>\n'] if full else []
    for name, value in document.items():
        _element(parts.append, name, value, short)
    return "".join(parts)


def _element(write: Any, name: str, value: Any, short: bool) -> None:
    _valid_name(name, "element")
    many = isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray, memoryview, dict))
    for one in value if many else (value,):
        if one is None:
            one = {}
        if not isinstance(one, dict):
            text = xmltodict._convert_value_to_string(one)
            write(f"<{name}>{escape(text)}</{name}>" if text or not short else f"<{name}/>")
            continue
        write(f"<{name}")
        text, children = None, []
        for key, inner in one.items():
            if key == "#text":
                text = None if inner is None else xmltodict._convert_value_to_string(inner)
            elif key.startswith("@"):
                _valid_name(key[1:], "attribute")
                write(f" {key[1:]}={quoteattr('' if inner is None else xmltodict._convert_value_to_string(inner))}")
            elif not (isinstance(inner, list) and not inner):
                children.append((key, inner))
        if short and not children and not text:
            write("/>")
            continue
        write(">")
        for key, inner in children:
            _element(write, key, inner, short)
        write(f"{escape(text or '')}</{name}>")


_backend_of = functools.lru_cache(maxsize=None)(DomainDispatcherApplication.get_backend_for_host)


def install() -> None:
    """Put the shorter ways in place."""
    DomainDispatcherApplication.get_backend_for_host = _backend_of
    iam.get_account_id_from = _account_of
    responses.method_names_from_class = _method_names
    Table.__deepcopy__ = _copy_table
