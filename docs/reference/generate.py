"""Write the pages of this folder from the code: `python -m docs.reference.generate`."""

import argparse
import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import hydra_plugins.cifar_exp
from cifar_exp.__main__ import _parser
from cifar_exp.config.keys import SHORT_NAMES
from cifar_exp.config.schema import RunConfig
from cifar_exp.config.search_settings import SearchSettings
from cifar_exp.config.study import Claim, Study

HERE = Path(__file__).parent
CONF = HERE.parents[1] / "conf"
MADE_BY = (
    "<!-- Made by `python -m docs.reference.generate`; what is written here by hand is lost. -->"
)
TYPES = {
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "null": "null",
    "array": "list",
    "object": "mapping",
}
LIMITS = {
    "exclusiveMinimum": "above {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "below {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} entry",
    "minProperties": "at least {} entry",
}
# A test compares this with what the code reads.
ENVIRONMENT = {
    "HYDRA_FULL_ERROR": "`1` shows the traceback of a mistake, which else is told in a line or two",
    "OMP_NUM_THREADS": "threads of the CPU for a run that is trained alone; without it steps of "
    "little work take one, and others all cores",
    "CUDA_VISIBLE_DEVICES": "which GPUs there are, such as `0,1`; read by CUDA",
    "PYTHONPATH": "where code of one's own is looked for as well; read by Python",
    "WANDB_API_KEY": "key of `logger=wandb`; without one it stays offline",
    "WANDB_IDENTITY_TOKEN_FILE": "file with a token of W&B, instead of a key",
    "WANDB_BASE_URL": "server of W&B, if not the public one",
    "RAY_USAGE_STATS_ENABLED": "`1` lets Ray report its use to its makers; here it does not",
    "RANK": "number of this process; set by torchrun",
    "LOCAL_RANK": "its number on this machine; set by torchrun",
    "WORLD_SIZE": "how many processes train the run; set by torchrun",
    "LOCAL_WORLD_SIZE": "how many of them are on this machine; set by torchrun",
}
Schema = Mapping[str, Any]


def pages() -> dict[Path, str]:
    """Return the text of every page that is made here."""
    return {HERE / "settings.md": settings_page(), HERE / "commands.md": commands_page()}


def settings_page() -> str:
    """Return the page of all settings, options, sweeps, studies and environment variables."""
    parts = [
        "# All settings",
        MADE_BY,
        "Set one by its key on the command line: `python train.py optimizer.lr=0.01`. Some keys "
        "have a short name as well (`lr=0.01`). `python train.py --cfg job` shows what a command "
        "comes to, and trains nothing. The defaults are the article's.",
        *sections(),
        *options(),
        *sweeps(),
        *studies(),
        "## Environment variables",
        table(("name", "meaning"), [(f"`{k}`", v) for k, v in ENVIRONMENT.items()]),
        "Any other can stand in a setting: `'data.root=${oc.env:SCRATCH}/photos'`. Files that are "
        "written keep the expression, never its value.",
    ]
    return "\n\n".join(parts) + "\n"


def sections() -> Iterator[str]:
    """Yield the settings of a run: those without a section, then each section with its kinds."""
    schema = RunConfig.model_json_schema()
    single = {key: value for key, value in schema["properties"].items() if not kinds(value, schema)}
    yield "## Without a section"
    yield setting_table("", single)
    for section, value in schema["properties"].items():
        found = kinds(value, schema)
        if found:
            yield f"## {section}"
            yield from section_tables(section, found)


def section_tables(section: str, found: Sequence[Schema]) -> Iterator[str]:
    """Yield what all kinds of a section have, then what each has of its own."""
    own = [settings_of(kind) for kind in found]
    common = {key: v for key, v in own[0].items() if all(o.get(key) == v for o in own)}
    if len(found) == 1:
        yield found[0]["description"]
    if common:
        yield setting_table(f"{section}.", common)
    for kind, settings in zip(found, own, strict=True):
        rest = {key: value for key, value in settings.items() if key not in common}
        if len(found) > 1:
            yield f"### {' '.join(f'`{section}={name}`' for name in names_of(kind))}"
            yield kind["description"].replace("<", "&lt;")
            if rest:
                yield setting_table(f"{section}.", rest)


def kinds(value: Schema, schema: Schema) -> list[Schema]:
    """Return the schemas of the kinds that a section comes in; none for a single setting."""
    references = [part["$ref"] for part in [value, *value.get("oneOf", [])] if "$ref" in part]
    return [schema["$defs"][reference.rpartition("/")[2]] for reference in references]


def settings_of(kind: Schema) -> dict[str, Schema]:
    """Return the settings of a section, without its name, which is chosen as a group's option."""
    return {key: value for key, value in kind["properties"].items() if key != "name"}


def names_of(kind: Schema) -> list[str]:
    """Return the options of a group that make this kind of section."""
    name = kind["properties"].get("name", {})
    return name.get("enum", [name["const"]] if "const" in name else [])


def setting_table(prefix: str, settings: Mapping[str, Schema]) -> str:
    """Return a line a setting: key, type, range, default, meaning."""
    shorts = {key: short for short, key in SHORT_NAMES.items()}
    rows = []
    for name, value in settings.items():
        key = prefix + name
        meaning = value.get("description", "")
        if key in shorts:
            meaning += f"; short name `{shorts[key]}`"
        default = shown(value["default"]) if "default" in value else "must be given"
        rows.append((f"`{key}`", type_of(value), range_of(value), default, meaning))
    return table(("key", "type", "range", "default", "meaning"), rows)


def shown(value: object) -> str:
    """Return a value as YAML has it."""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def type_of(value: Schema) -> str:
    """Return the type in words."""
    if "anyOf" in value:
        return ", ".join(dict.fromkeys(type_of(part) for part in value["anyOf"]))
    if "enum" in value:
        return "one of"
    if value.get("type") == "array" and (items := items_of(value)):
        count = f"{len(value['prefixItems'])} " if "prefixItems" in value else ""
        return f"list of {count}{type_of(items)}s" if "type" in items else "list"
    return TYPES.get(value.get("type", ""), "any")


def range_of(value: Schema) -> str:
    """Return which values are allowed, in words; "" for all of the type."""
    if "anyOf" in value:
        return ", ".join(filter(None, map(range_of, value["anyOf"])))
    if "enum" in value:
        return ", ".join(f"`{option}`" for option in value["enum"])
    message = [text.format(f"{value[key]:,}") for key, text in LIMITS.items() if key in value]
    if value.get("type") == "array" and (items := items_of(value)):
        message = [limit for limit in message if "prefixItems" not in value]
        message += [f"each {limits}" for limits in [range_of(items)] if limits]
    return ", ".join(message)


def items_of(value: Schema) -> Schema:
    """Return the schema of a list's first item."""
    return value["prefixItems"][0] if "prefixItems" in value else value.get("items", {})


def options() -> Iterator[str]:
    """Yield the groups of conf/ with their options."""
    yield "## Groups and their options"
    yield (
        "A file of a folder of `conf/` is chosen by its name: `optimizer=sgd` takes "
        "`conf/optimizer/sgd.yaml`. A file of your own is chosen in the same way."
    )
    groups = sorted(folder for folder in CONF.iterdir() if folder.is_dir())
    described = descriptions()
    for folder in groups:
        if folder.name != "hydra":
            yield f"### `{folder.name}`"
            rows = [
                (f"`{file.stem}`", meaning_of(file, described.get((folder.name, file.stem), "")))
                for file in sorted(folder.glob("*.yaml"))
            ]
            yield table(("option", "meaning"), rows)


def meaning_of(file: Path, otherwise: str) -> str:
    """Return what a file says of itself first; of a level, what it sets."""
    if file.parent.name in SHORT_NAMES:
        ((section, values),) = yaml.safe_load(file.read_text()).items()
        return ", ".join(f"`{section}.{key}={value}`" for key, value in values.items())
    for line in file.read_text().splitlines():
        if line.startswith("# ") and not line.startswith("# @package"):
            return re.sub(r":( python .*)?$", "", line.removeprefix("# "))
    return otherwise


def descriptions() -> dict[tuple[str, str], str]:
    """Return what the schema says of each option that makes a kind of section."""
    schema = RunConfig.model_json_schema()
    return {
        (section, name): kind["description"]
        for section, value in schema["properties"].items()
        for kind in kinds(value, schema)
        for name in names_of(kind)
    }


def sweeps() -> Iterator[str]:
    """Yield the settings of launchers and sweepers: those in code, then those in conf/hydra/."""
    for module in pkgutil.iter_modules(hydra_plugins.cifar_exp.__path__):
        import_module(f"hydra_plugins.cifar_exp.{module.name}")
    yield "## Sweeps"
    yield "How the runs of `-m` are made and where they are trained; no part of what a run is."
    for group in ("launcher", "sweeper"):
        for node in ConfigStore.instance().repo["hydra"].get(group, {}).values():
            if node.provider == "cifar_exp":
                yield f"### `hydra/{group}={Path(node.name).stem}`"
                settings = OmegaConf.get_type(node.node)
                if is_dataclass(settings):
                    yield from plugin_table(f"hydra.{group}.", settings)
                else:  # of a search, which has a schema
                    yield "A search with Optuna: [search for good settings](../guide/search.md)."
                    schema = SearchSettings.model_json_schema()
                    yield setting_table(f"hydra.{group}.", schema["properties"])
        for file in sorted(CONF.glob(f"hydra/{group}/*.yaml")):
            yield f"### `hydra/{group}={file.stem}`"
            yield meaning_of(file, "")
            yield table(("key", "default", "meaning"), yaml_rows(f"hydra.{group}.", file))


def plugin_table(prefix: str, settings: Any) -> Iterator[str]:
    """Yield what a plugin is and its settings, whose meaning its docstring tells."""
    found = {field.name: field for field in fields(settings)}
    module, _, name = found.pop("_target_").default.rpartition(".")
    # what Hydra finds is a subclass without anything of its own
    text = inspect.getdoc(getattr(import_module(module), name).__base__) or ""
    yield text.partition("\n")[0]
    meanings = dict(re.findall(r"^    (\w+): ((?:.|\n {8})+)$", text, re.MULTILINE))
    rows = [
        (f"`{prefix}{key}`", shown(field.default), " ".join(meanings[key].split()))
        for key, field in found.items()
    ]
    yield table(("key", "default", "meaning"), rows)


def yaml_rows(prefix: str, file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield a line a setting of a YAML file: key, default, and what its comment says."""
    above: list[str] = []
    for line in file.read_text().splitlines():
        match = re.match(r"^( *)(\w+):(?: (.*?))?(?: # (.*))?$", line)
        if not match or match[2] == "_target_":
            continue
        above[len(match[1]) // 2 :] = [match[2]]
        if match[3]:
            yield f"`{prefix}{'.'.join(above)}`", f"`{match[3]}`", match[4] or ""


def studies() -> Iterator[str]:
    """Yield what stands in a file of conf/study/."""
    yield "## Files of `conf/study/`"
    for heading, model in (("A study", Study), ("A claim of a study", Claim)):
        yield f"### {heading}"
        yield setting_table("", model.model_json_schema()["properties"])


def commands_page() -> str:
    """Return the page of `python -m cifar_exp`."""
    parts = [
        "# All commands",
        MADE_BY,
        "`python train.py` trains: `python train.py --help` tells the settings and groups, and "
        "`python train.py --hydra-help` the options, such as `-m` for a sweep. What was trained is "
        "looked at with `python -m cifar_exp COMMAND`; `--help` after a command tells the same as "
        "this page.",
        *(text for name, parser in commands().items() for text in command_parts(name, parser)),
    ]
    return "\n\n".join(parts) + "\n"


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    (group,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(group.choices)


def command_parts(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a heading, what the command does with an example, and a table of its arguments."""
    yield f"## {name}"
    yield parser.description or ""
    rows = [
        (f"`{argument_name(action)}`", action.help or "")
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    yield table(("argument", "meaning"), rows)


def argument_name(action: argparse.Action) -> str:
    """Return how an argument is written."""
    value = str(action.metavar or "|".join(action.choices or ()) or action.dest.upper())
    value += "..." if action.nargs == "+" else ""
    if not action.option_strings:
        return f"[{value}]" if action.nargs == "?" else value
    return action.option_strings[-1] + (f" {value}" if action.nargs != 0 else "")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; columns that are empty are left out."""
    rows = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in rows]
    kept = [i for i, name in enumerate(header) if any(row[i] for row in rows) or not rows]
    lines = [
        [header[i] for i in kept],
        ["---" for _ in kept],
        *([r[i] for i in kept] for r in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
