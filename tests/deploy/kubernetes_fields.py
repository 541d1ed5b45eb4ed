"""Whether a manifest has the fields, and the types, that Kubernetes' API publishes: its Python client is generated from
the API's own schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kubernetes.client import models

PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object, "datetime": str}


def mistakes(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, a line each."""
    version = manifest["apiVersion"].rpartition("/")[2]
    name = f"{version[0].upper()}{version[1:]}{manifest['kind']}"
    return list(_check(manifest, name, manifest["kind"]))


def _check(value: Any, kind: str, where: str) -> Iterator[str]:
    if items := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: expected a list, found {value!r}"
            return
        for index, item in enumerate(value):
            yield from _check(item, items[1], f"{where}[{index}]")
    elif entries := re.fullmatch(r"(?:dict\(str, (.*)\)|Dict\[str, (.*)\])", kind):
        for key, item in value.items():
            yield from _check(item, entries[1] or entries[2], f"{where}.{key}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]):
            yield f"{where}: expected {kind}, found {value!r}"
    else:
        yield from _check_fields(value, getattr(models, kind), where)


def _check_fields(value: Any, model: Any, where: str) -> Iterator[str]:
    kinds = {field: model.openapi_types[name] for name, field in model.attribute_map.items()}
    for field, item in value.items():
        if field not in kinds:
            yield f"{where}: unknown field {field}; there are {', '.join(kinds)}"
        else:
            yield from _check(item, kinds[field], f"{where}.{field}")
    try:  # the constructors know which fields are required
        model(**{name: value.get(field) for name, field in model.attribute_map.items()})
    except ValueError as error:
        yield f"{where}: {error}"
