"""As much of HCL as our modules use: blocks are read by bc-python-hcl2, expressions are evaluated here.

References to resources stay symbolic, `<label.attribute>`; variables have sample values. What this does not
know raises, so that a new form in a module cannot pass unread.
"""

import json
import pathlib
import re

import hcl2

TOKEN = re.compile(
    r'\s*(?:(?P<number>\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<op>==|!=|=>|&&|\|\||[?:(){}\[\],.!=])|(?P<quote>["\']))'
)
MARKS = ("__start_line__", "__end_line__", "__start_column__", "__end_column__")


class Unknown(Exception):
    """A form of HCL that is not known here."""


class Expression:
    """One expression, evaluated while it is read."""

    def __init__(self, text, scope):
        self.text, self.at, self.scope = text, 0, scope

    def whole(self):
        value = self.ternary()
        if self.text[self.at :].strip():
            raise Unknown(f"`{self.text[self.at :]}` in `{self.text}`")
        return value

    def peek(self):
        match = TOKEN.match(self.text, self.at)
        return match.group().strip() if match else ""

    def take(self, wanted=None):
        match = TOKEN.match(self.text, self.at)
        if not match or (wanted and match.group().strip() != wanted):
            raise Unknown(f"`{wanted or 'a value'}` expected at `{self.text[self.at : self.at + 30]}` in `{self.text}`")
        self.at = match.end()
        return match

    def has(self, word):
        if self.peek() != word:
            return False
        self.take()
        return True

    def ternary(self):
        condition = self.either()
        if not self.has("?"):
            return condition
        yes = self.ternary()
        self.take(":")
        no = self.ternary()
        return yes if condition else no

    def either(self):
        left = self.both()
        while self.has("||"):
            right = self.both()
            left = left or right
        return left

    def both(self):
        left = self.equal()
        while self.has("&&"):
            right = self.equal()
            left = left and right
        return left

    def equal(self):
        left = self.unary()
        for op in ("==", "!="):
            if self.has(op):
                return (left == self.unary()) == (op == "==")
        return left

    def unary(self):
        return not self.unary() if self.has("!") else self.primary()

    def primary(self):
        match = self.take()
        if match["number"]:
            return int(match["number"])
        if match["quote"]:
            return self.string(match["quote"])
        if match["op"] == "(":
            value = self.ternary()
            self.take(")")
            return value
        if match["op"] == "[":
            return self.list()
        if match["op"] == "{":
            return self.object()
        if match["name"]:
            return self.name(match["name"])
        raise Unknown(f"`{match.group()}` in `{self.text}`")

    def string(self, quote):
        """After the opening quote; escapes and interpolations.

        bc-python-hcl2 writes an object in an argument as Python would: single quotes, and expressions as
        strings that hold nothing but an interpolation.
        """
        out = []
        while True:
            letter = self.text[self.at]
            if letter == quote:
                self.at += 1
                is_one = quote == "'" and len(out) == 1
                return out[0] if is_one else "".join(map(str, out))
            if letter == "\\":
                out.append({"n": "\n", "t": "\t"}.get(self.text[self.at + 1], self.text[self.at + 1]))
                self.at += 2
            elif self.text.startswith("${", self.at):
                self.at += 2
                out.append(self.ternary())
                self.take("}")
            else:
                out.append(letter)
                self.at += 1

    def list(self):
        if self.peek() == "for":
            return [value for _, value in self.comprehension("]", False)]
        values = []
        while not self.has("]"):
            values.append(self.ternary())
            self.has(",")
        return values

    def object(self):
        if self.peek() == "for":
            return dict(self.comprehension("}", True))
        values = {}
        while not self.has("}"):
            match = self.take()
            key = self.string(match["quote"]) if match["quote"] else match["name"]
            if not (self.has("=") or self.has(":")):
                raise Unknown(f"no value for `{key}` in `{self.text}`")
            values[key] = self.ternary()
            self.has(",")
        return values

    def comprehension(self, end, is_object):
        self.take("for")
        names = [self.take()["name"]]
        if self.has(","):
            names.append(self.take()["name"])
        self.take("in")
        over = self.ternary()
        self.take(":")
        begin, pairs = self.at, []
        items = over.items() if isinstance(over, dict) else enumerate(over)
        finish = None
        for key, value in items:
            bound = dict(zip(names, (key, value) if len(names) == 2 else (value,)))
            inner = Expression(self.text, {**self.scope, **bound})
            inner.at = begin
            made = (inner.ternary(), inner.take("=>"), inner.ternary())[::2] if is_object else (None, inner.ternary())
            if not inner.has("if") or inner.ternary():
                pairs.append(made)
            inner.take(end)
            finish = inner.at
        self.at = finish if finish is not None else self.skip(end)
        return pairs

    def skip(self, end):
        """The end of a comprehension over nothing."""
        found = self.text.find(end, self.at)
        if found < 0:
            raise Unknown(f"no `{end}` in `{self.text}`")
        return found + 1

    def name(self, name):
        if self.peek() == "(":
            return self.call(name)
        if name in ("true", "false", "null", "None", "True", "False"):
            return {"true": True, "True": True, "false": False, "False": False}.get(name)
        value, is_symbol = self.scope.get(name), name not in self.scope
        path = [name]
        while True:
            if self.has("."):
                step = self.take()["name"]
            elif self.peek() == "[":
                self.take("[")
                step = self.ternary()
                self.take("]")
            else:
                break
            path.append(step)
            if not is_symbol:
                value = value(step) if callable(value) else value[step]
        return symbol(path, self.text) if is_symbol else value

    def call(self, name):
        self.take("(")
        arguments = []
        while not self.has(")"):
            arguments.append(self.ternary())
            self.has(",")
        first = arguments[0]
        known = {
            "file": lambda: pathlib.Path(first).read_text(),
            "filebase64sha256": lambda: f"<sha256 of {first}>",
            "jsonencode": lambda: json.dumps(first, separators=(",", ":")),
            "keys": lambda: list(first),
            "length": lambda: len(first),
            "merge": lambda: {key: value for one in arguments for key, value in one.items()},
            "toset": lambda: first,
        }
        if name not in known:
            raise Unknown(f"the function `{name}` in `{self.text}`")
        return known[name]()


def symbol(path, text):
    """`aws_sqs_queue.queue.arn` as `<queue.arn>`; of one of several, `rule["a-b"]`, as `<a_b_rule.arn>`."""
    if not path[0].startswith("aws_") or len(path) < 2:
        raise Unknown(f"`{path}` in `{text}`")
    label, *rest = path[1:]
    if rest and isinstance(rest[0], int):
        rest = rest[1:]
    elif rest and len(rest) > 1:
        label, rest = f"{rest[0].replace('-', '_')}_{label}", rest[1:]
    return f"<{label}.{'.'.join(rest)}>" if rest else f"<{label}>"


def evaluate(value, scope):
    """A value as bc-python-hcl2 gives it."""
    if isinstance(value, dict):
        return {key: evaluate(one, scope) for key, one in value.items() if key not in MARKS}
    if isinstance(value, list):
        return [evaluate(one, scope) for one in value]
    if not isinstance(value, str) or "${" not in value:
        return value.replace('\\"', '"') if isinstance(value, str) else value
    if is_one_expression(value):
        return Expression(value[2:-1], scope).whole()
    out, at = [], 0
    while at < len(value):
        if value.startswith("${", at):
            inner = Expression(value, scope)
            inner.at = at + 2
            out.append(str(inner.ternary()))
            inner.take("}")
            at = inner.at
        else:
            out.append(value[at])
            at += 1
    return "".join(out)


def is_one_expression(text):
    """Whether the first `${` is closed by the last letter."""
    if not text.startswith("${"):
        return False
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0 and at > 0 and letter == "}":
            return at == len(text) - 1
    return False


def read(folder):
    """The blocks of a module, those of all its files together."""
    blocks = {}
    for path in sorted(pathlib.Path(folder).glob("*.tf")):
        with path.open() as file:
            for kind, several in hcl2.load(file).items():
                blocks.setdefault(kind, []).extend(several)
    return blocks


class Module:
    """A module with values for its variables."""

    def __init__(self, folder, variables):
        self.blocks = read(folder)
        declared = {name: body for one in self.blocks.get("variable", []) for name, body in one.items()}
        values = {name: evaluate(unlist(body.get("default", [None])), {}) for name, body in declared.items()}
        unknown = set(variables) - set(values)
        if unknown:
            raise Unknown(f"there are no variables {sorted(unknown)}")
        values.update(variables)
        self.variables = declared
        self.scope = {"var": values, "path": {"module": str(folder)}}
        self.scope["data"] = self.data_of
        self.locals = {}
        for block in self.blocks.get("locals", []):
            self.locals.update({name: value for name, value in block.items() if name not in MARKS})
        self.scope["local"] = lambda name: evaluate(unlist(self.locals[name]), self.scope)
        self.data = {}
        for one in self.blocks.get("data", []):
            for kind, labels in one.items():
                self.data.update({(kind, label): body for label, body in labels.items()})

    def data_of(self, kind):
        fixed = {
            "aws_caller_identity": {"account_id": "<account>"},
            "aws_partition": {"partition": "aws"},
            "aws_region": {"name": "<region>"},
        }
        if kind in fixed:
            return {"current": fixed[kind]}
        return lambda label: Document(self, self.data[kind, label])

    def resources(self):
        """Type, label and body of every resource that the variables ask for."""
        for one in self.blocks.get("resource", []):
            for kind, labels in one.items():
                for label, body in labels.items():
                    yield from self.instances(kind, label, body)

    def instances(self, kind, label, body):
        count = evaluate(unlist(body.get("count", [1])), self.scope)
        if count == 0:
            return
        if "for_each" not in body:
            yield kind, label, Body(self, body, self.scope)
            return
        over = evaluate(unlist(body["for_each"]), self.scope)
        for key, value in over.items() if isinstance(over, dict) else [(one, one) for one in over]:
            scope = {**self.scope, "each": {"key": key, "value": value}}
            yield kind, f"{key.replace('-', '_')}_{label}", Body(self, body, scope)


def unlist(value):
    """Attributes come as lists of one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class Body(dict):
    """The attributes and nested blocks of a block, evaluated."""

    META = ("count", "for_each", "depends_on", "lifecycle")

    def __init__(self, module, body, scope):
        super().__init__()
        self.raw = body
        for name, value in body.items():
            if name in MARKS or name in self.META:
                continue
            self[name] = evaluate(unlist(value), scope)
        # A block within: its attributes are lists of one too.
        for name, value in self.items():
            self[name] = plain(value, name)


def plain(value, name):
    if isinstance(value, dict) and name not in ("variables", "dimensions", "tags"):
        return {key: plain(unlist(one) if isinstance(one, list) else one, key) for key, one in value.items()}
    return value


class Document(dict):
    """An `aws_iam_policy_document`: `.json` is a list of statements in the form of policy.py."""

    def __init__(self, module, body):
        from . import policy

        super().__init__()
        statements = []
        for block in body.get("statement", []):
            statements.append(statement(block, module.scope))
        for block in body.get("dynamic", []):
            inner = block["statement"]
            for _ in evaluate(unlist(inner["for_each"]), module.scope):
                statements.append(statement(inner["content"][0], module.scope))
        self["json"] = policy.Statements(statements)

    def __getitem__(self, name):
        # With a count, `[0]` comes first.
        return self if name == 0 else super().__getitem__(name)


def statement(block, scope):
    get = lambda name, default=None: evaluate(unlist(block[name]), scope) if name in block else default
    listed = lambda value: value if isinstance(value, list) else [value]
    principals = {}
    for inner in block.get("principals", []):
        kind = evaluate(unlist(inner["type"]), scope)
        principals[kind] = sorted(listed(evaluate(unlist(inner["identifiers"]), scope)))
    conditions = {}
    for inner in block.get("condition", []):
        test, variable = evaluate(unlist(inner["test"]), scope), evaluate(unlist(inner["variable"]), scope)
        values = sorted(listed(evaluate(unlist(inner["values"]), scope)))
        conditions.setdefault(test, {})[variable] = values
    return {
        "sid": get("sid"),
        "effect": get("effect", "Allow"),
        "principals": principals,
        "actions": sorted(listed(get("actions"))),
        "resources": sorted(listed(get("resources"))) if "resources" in block else [],
        "conditions": conditions,
    }
