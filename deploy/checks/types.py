"""Holds arguments of HCL to what the provider publishes, by the types of npm's `@cdktf/provider-aws`."""

import re

from . import hcl

META = ("count", "for_each", "depends_on", "lifecycle", "provider")
INTERFACE = re.compile(r"export interface (\w+)[^{]*\{(.*?)^\}", re.S | re.M)
MEMBER = re.compile(r"^    readonly (\w+)(\??): (\S[^;]*)", re.M)


def camel(name):
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def interfaces(text):
    return {
        name: {member: (optional == "?", kind) for member, optional, kind in MEMBER.findall(body)}
        for name, body in INTERFACE.findall(text)
    }


def check(folder, library):
    """What is wrong in a module, a line each, and how many arguments were looked at."""
    problems, count = [], 0
    blocks = hcl.read(folder)
    for section, prefix in (("resource", ""), ("data", "data-aws-")):
        for one in blocks.get(section, []):
            for kind, labels in one.items():
                name = prefix + kind.removeprefix("aws_").replace("_", "-")
                path = library / name / "index.d.ts"
                if not path.exists():
                    problems.append(f"{kind}: the provider has no such {section}")
                    continue
                known = interfaces(path.read_text())
                (top,) = [one for one in known if one.endswith("Config") and one.lower() == config(name)]
                for label, body in labels.items():
                    count += block(known, top, body, f"{kind}.{label}", problems)
    return problems, count


def config(name):
    return name.replace("-", "") + "config"


def block(known, interface, body, place, problems):
    count, members = 0, known[interface]
    given = dict(body)
    # A dynamic block stands for what it makes.
    for dynamic in given.pop("dynamic", []):
        for label, inner in dynamic.items():
            given.setdefault(label, []).extend(inner["content"])
    for name, value in given.items():
        if name in hcl.MARKS or name in META:
            continue
        count += 1
        if camel(name) not in members:
            problems.append(f"{place}: there is no argument `{name}`")
            continue
        kind = re.match(r"\w*", members[camel(name)][1])[0]
        if kind in known:
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    count += block(known, kind, inner, f"{place}.{name}", problems)
    for member, (is_optional, _) in members.items():
        if not is_optional and member not in {camel(name) for name in given}:
            problems.append(f"{place}: the argument `{member}` is required")
    return count
