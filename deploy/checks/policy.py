"""Policies in one form, whatever they were written in."""


class Statements(list):
    """Statements of a policy, in the order of the text."""

    def __str__(self):
        return f"<policy of {len(self)}>"


def listed(value):
    return sorted(value) if isinstance(value, list) else [value]


def of_json(document):
    """A policy document as AWS takes it."""
    statements = []
    for one in document["Statement"]:
        if one is None:
            continue
        principal = one.get("Principal", {})
        principals = {"*": ["*"]} if principal == "*" else {kind: listed(who) for kind, who in principal.items()}
        statements.append(
            {
                "sid": one.get("Sid"),
                "effect": one["Effect"],
                "principals": principals,
                "actions": listed(one["Action"]),
                "resources": listed(one["Resource"]) if "Resource" in one else [],
                "conditions": {
                    test: {variable: listed(values) for variable, values in tested.items()}
                    for test, tested in one.get("Condition", {}).items()
                },
            }
        )
    return Statements(statements)
