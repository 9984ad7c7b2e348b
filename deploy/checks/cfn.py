"""CloudFormation templates with values for their parameters; references to resources stay symbolic."""

import re

import yaml

# What `Ref` gives, by type, in the words of Terraform's provider.
REFS = {
    "AWS::DynamoDB::Table": "name",
    "AWS::Events::EventBus": "name",
    "AWS::KMS::Key": "key_id",
    "AWS::Lambda::Function": "function_name",
    "AWS::Logs::LogGroup": "name",
    "AWS::SNS::Topic": "arn",
    "AWS::SQS::Queue": "url",
    "AWS::Scheduler::ScheduleGroup": "name",
}
ATTRIBUTES = {"Arn": "arn", "QueueName": "name", "FunctionUrl": "function_url"}
PSEUDO = {
    "AWS::AccountId": "<account>",
    "AWS::Partition": "aws",
    "AWS::Region": "<region>",
    "AWS::NoValue": None,
}


class Loader(yaml.SafeLoader):
    """Knows the short forms of functions."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", short_form)


def load(text):
    return yaml.load(text, Loader)


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


class Template:
    """A template with values for its parameters."""

    def __init__(self, text, parameters):
        self.template = load(text)
        self.parameters = {}
        for name, body in self.template.get("Parameters", {}).items():
            value = parameters.get(snake(name), body.get("Default"))
            if body["Type"] == "CommaDelimitedList" and isinstance(value, str):
                value = value.split(",")
            self.parameters[name] = value if not isinstance(value, list) or value else [""]
        self.conditions = {}

    def holds(self, name):
        if name not in self.conditions:
            self.conditions[name] = self.value(self.template["Conditions"][name])
        return self.conditions[name]

    def resources(self):
        for name, body in self.template["Resources"].items():
            if "Condition" not in body or self.holds(body["Condition"]):
                properties = self.value(body.get("Properties", {}))
                yield name, body, {key: value for key, value in properties.items() if value is not None}

    def ref(self, name):
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        return f"<{snake(name)}.{REFS[self.template['Resources'][name]['Type']]}>"

    def attribute(self, path):
        name, attribute = path.split(".", 1)
        # With this one alone, CloudFormation's ARN ends in `:*`.
        is_group = self.template["Resources"][name]["Type"] == "AWS::Logs::LogGroup"
        return f"<{snake(name)}.{ATTRIBUTES[attribute]}>" + (":*" if is_group else "")

    def value(self, value):
        if isinstance(value, list):
            return [one for one in map(self.value, value) if one is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self.ref(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if name.startswith("Fn::"):
                return self.function(name[4:], argument)
        made = {key: self.value(one) for key, one in value.items()}
        return {key: one for key, one in made.items() if one is not None}

    def function(self, name, argument):
        if name == "GetAtt":
            return self.attribute(argument)
        if name == "If":
            condition, yes, no = argument
            return self.value(yes if self.holds(condition) else no)
        if name == "Sub":
            text, own = argument if isinstance(argument, list) else (argument, {})
            own = {key: self.value(one) for key, one in own.items()}
            return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", lambda match: self.part(match[1], own), text)
        if name == "Not":
            return not self.value(argument[0])
        if name == "And":
            return all(self.value(one) for one in argument)
        arguments = [self.value(one) for one in argument]
        if name == "Equals":
            return str(arguments[0]) == str(arguments[1])
        if name == "Join":
            return arguments[0].join(arguments[1])
        if name == "Split":
            return arguments[1].split(arguments[0])
        if name == "Select":
            return arguments[1][arguments[0]]
        raise ValueError(f"the function {name} is not known here")

    def part(self, name, own):
        if name in own:
            return str(own[name])
        return str(self.attribute(name) if "." in name else self.ref(name))
