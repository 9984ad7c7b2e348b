"""Holds a CloudFormation template and a Terraform module to each other.

Both become facts: what there is, by label, with every property in Terraform's words. A property that has no
word here raises, so that nothing can be added to one of the two unseen.
"""

import json

from . import policy
from .cfn import snake
from .policy import Statements

ALARM = {
    "AlarmName": "alarm_name",
    "AlarmDescription": "alarm_description",
    "AlarmActions": "alarm_actions",
    "ComparisonOperator": "comparison_operator",
    "EvaluationPeriods": "evaluation_periods",
    "MetricName": "metric_name",
    "Namespace": "namespace",
    "OKActions": "ok_actions",
    "Period": "period",
    "Statistic": "statistic",
    "Threshold": "threshold",
    "TreatMissingData": "treat_missing_data",
}
# CloudFormation's type: Terraform's, and the words for properties.
KINDS = {
    "AWS::CloudWatch::Alarm": ("aws_cloudwatch_metric_alarm", ALARM),
    "AWS::DynamoDB::Table": (
        "aws_dynamodb_table",
        {
            "TableName": "name",
            "BillingMode": "billing_mode",
            "DeletionProtectionEnabled": "deletion_protection_enabled",
        },
    ),
    "AWS::Events::Archive": (
        "aws_cloudwatch_event_archive",
        {
            "ArchiveName": "name",
            "Description": "description",
            "RetentionDays": "retention_days",
            "SourceArn": "event_source_arn",
        },
    ),
    "AWS::Events::EventBus": ("aws_cloudwatch_event_bus", {"Name": "name", "Description": "description"}),
    "AWS::Events::Rule": (
        "aws_cloudwatch_event_rule",
        {"Name": "name", "Description": "description", "EventBusName": "event_bus_name", "State": "state"},
    ),
    "AWS::IAM::Role": ("aws_iam_role", {"RoleName": "name", "Description": "description"}),
    "AWS::KMS::Alias": ("aws_kms_alias", {"AliasName": "name", "TargetKeyId": "target_key_id"}),
    "AWS::KMS::Key": (
        "aws_kms_key",
        {
            "Description": "description",
            "EnableKeyRotation": "enable_key_rotation",
            "PendingWindowInDays": "deletion_window_in_days",
        },
    ),
    "AWS::Lambda::EventSourceMapping": (
        "aws_lambda_event_source_mapping",
        {
            "BatchSize": "batch_size",
            "EventSourceArn": "event_source_arn",
            "FunctionName": "function_name",
            "FunctionResponseTypes": "function_response_types",
            "MaximumBatchingWindowInSeconds": "maximum_batching_window_in_seconds",
        },
    ),
    "AWS::Lambda::Function": (
        "aws_lambda_function",
        {
            "Architectures": "architectures",
            "Description": "description",
            "FunctionName": "function_name",
            "Handler": "handler",
            "MemorySize": "memory_size",
            "Role": "role",
            "Runtime": "runtime",
            "Timeout": "timeout",
        },
    ),
    "AWS::Lambda::Url": (
        "aws_lambda_function_url",
        {"AuthType": "authorization_type", "InvokeMode": "invoke_mode"},
    ),
    "AWS::Logs::LogGroup": (
        "aws_cloudwatch_log_group",
        {"LogGroupName": "name", "RetentionInDays": "retention_in_days", "KmsKeyId": "kms_key_id"},
    ),
    "AWS::Logs::MetricFilter": (
        "aws_cloudwatch_log_metric_filter",
        {"FilterName": "name", "FilterPattern": "pattern", "LogGroupName": "log_group_name"},
    ),
    "AWS::SNS::Subscription": (
        "aws_sns_topic_subscription",
        {"TopicArn": "topic_arn", "Protocol": "protocol", "Endpoint": "endpoint"},
    ),
    "AWS::SNS::Topic": (
        "aws_sns_topic",
        {"TopicName": "name", "DisplayName": "display_name", "KmsMasterKeyId": "kms_master_key_id"},
    ),
    "AWS::SQS::Queue": (
        "aws_sqs_queue",
        {
            "QueueName": "name",
            "MessageRetentionPeriod": "message_retention_seconds",
            "ReceiveMessageWaitTimeSeconds": "receive_wait_time_seconds",
            "SqsManagedSseEnabled": "sqs_managed_sse_enabled",
            "VisibilityTimeout": "visibility_timeout_seconds",
        },
    ),
    "AWS::Scheduler::Schedule": (
        "aws_scheduler_schedule",
        {
            "Name": "name",
            "Description": "description",
            "GroupName": "group_name",
            "ScheduleExpression": "schedule_expression",
        },
    ),
    "AWS::Scheduler::ScheduleGroup": ("aws_scheduler_schedule_group", {"Name": "name"}),
}
RETRY = {
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumEventAgeInSeconds": "maximum_event_age_in_seconds",
}


class Facts(dict):
    def add(self, kind, label, **facts):
        self.setdefault(f"{kind} {label}", {}).update(facts)


def words(given, known):
    """Properties in Terraform's words; all of them are taken out of `given`."""
    return {word: given.pop(name) for name, word in known.items() if name in given}


def of_template(template):
    facts = Facts()
    for name, body, properties in template.resources():
        label, kind, left = snake(name), body["Type"], dict(properties)
        if kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
            (of,) = left.pop("Queues", None) or left.pop("Topics")
            owner = of.strip("<>").split(".")[0]
            facts.add(f"policy of {kind.split('::')[1]}", owner, statements=policy.of_json(left.pop("PolicyDocument")))
        else:
            terraform, known = KINDS[kind]
            facts.add(terraform, label, **words(left, known))
            special(facts, terraform, label, kind, left, body)
        if left:
            raise KeyError(f"{name}: no word for {sorted(left)}")
    return facts


def special(facts, terraform, label, kind, left, body):
    """What the two languages put in different places."""
    add = lambda **more: facts.add(terraform, label, **more)
    if kind == "AWS::CloudWatch::Alarm" and "Dimensions" in left:
        add(dimensions={one["Name"]: one["Value"] for one in left.pop("Dimensions")})
    if kind == "AWS::DynamoDB::Table":
        keys = {one["KeyType"]: one["AttributeName"] for one in left.pop("KeySchema")}
        ttl, backups = left.pop("TimeToLiveSpecification"), left.pop("PointInTimeRecoverySpecification")
        add(hash_key=keys["HASH"], range_key=keys["RANGE"])
        add(ttl={"attribute_name": ttl["AttributeName"], "enabled": ttl["Enabled"]})
        add(point_in_time_recovery={"enabled": backups["PointInTimeRecoveryEnabled"]})
        add(server_side_encryption={"enabled": left.pop("SSESpecification")["SSEEnabled"]})
        attributes = left.pop("AttributeDefinitions")
        add(attribute=sorted([one["AttributeName"], one["AttributeType"]] for one in attributes))
        indexes = left.pop("GlobalSecondaryIndexes", [])
        add(global_secondary_index=sorted(index_of_template(one) for one in indexes))
        add(is_kept=body.get("DeletionPolicy") == "Retain")
    if kind == "AWS::Events::EventBus" and "Policy" in left:
        facts.add("policy of Events", label, statements=policy.of_json(left.pop("Policy")))
    if kind == "AWS::Events::Rule":
        add(event_pattern=left.pop("EventPattern"))
        (target,) = left.pop("Targets")
        facts.add(
            "target of",
            label,
            target_id=target.pop("Id"),
            arn=target.pop("Arn"),
            retry_policy=words(target.pop("RetryPolicy"), RETRY),
            dead_letter_config={"arn": target.pop("DeadLetterConfig")["Arn"]},
        )
        if target:
            raise KeyError(f"{label}: no word for {sorted(target)} of the target")
    if kind == "AWS::IAM::Role":
        trust = policy.of_json(left.pop("AssumeRolePolicyDocument"))
        (own,) = left.pop("Policies")
        add(trust=trust, managed=sorted(left.pop("ManagedPolicyArns", [])))
        facts.add("policy of role", label, name=own["PolicyName"], statements=policy.of_json(own["PolicyDocument"]))
    if kind == "AWS::KMS::Key":
        add(policy=policy.of_json(left.pop("KeyPolicy")))
    if kind == "AWS::Lambda::EventSourceMapping":
        add(scaling_config={"maximum_concurrency": left.pop("ScalingConfig")["MaximumConcurrency"]})
    if kind == "AWS::Lambda::Function":
        code = left.pop("Code")
        add(s3_bucket=code["S3Bucket"], s3_key=code["S3Key"])
        add(environment=left.pop("Environment")["Variables"])
        add(dead_letter_config={"target_arn": left.pop("DeadLetterConfig")["TargetArn"]})
        # Terraform has to state the format that CloudFormation takes by default.
        add(logging_config={"log_format": "Text", "log_group": left.pop("LoggingConfig")["LogGroup"]})
    if kind == "AWS::Lambda::Url":
        add(function_name=left.pop("TargetFunctionArn").replace(".arn>", ".function_name>"))
    if kind == "AWS::Logs::MetricFilter":
        (one,) = left.pop("MetricTransformations")
        add(
            metric_transformation={
                "namespace": one["MetricNamespace"],
                "name": one["MetricName"],
                "value": one["MetricValue"],
            }
        )
    if kind == "AWS::SQS::Queue":
        for name, word in (("RedrivePolicy", "redrive_policy"), ("RedriveAllowPolicy", "redrive_allow_policy")):
            if name in left:
                add(**{word: left.pop(name)})
    if kind == "AWS::Scheduler::Schedule":
        target = left.pop("Target")
        add(flexible_time_window={"mode": left.pop("FlexibleTimeWindow")["Mode"]})
        add(
            target={
                "arn": target.pop("Arn"),
                "role_arn": target.pop("RoleArn"),
                "input": target.pop("Input"),
                "retry_policy": words(target.pop("RetryPolicy"), RETRY),
                "dead_letter_config": {"arn": target.pop("DeadLetterConfig")["Arn"]},
            }
        )
        if target:
            raise KeyError(f"{label}: no word for {sorted(target)} of the target")


def index_of_template(index):
    keys = {one["KeyType"]: one["AttributeName"] for one in index["KeySchema"]}
    projection = index["Projection"]
    kept = sorted(projection.get("NonKeyAttributes", []))
    return [index["IndexName"], keys.get("HASH"), keys.get("RANGE"), projection["ProjectionType"], kept]


def index_of_module(index):
    kept = sorted(index.get("non_key_attributes", []))
    return [index["name"], index.get("hash_key"), index.get("range_key"), index["projection_type"], kept]


def of_module(module):
    facts = Facts()
    for kind, label, body in module.resources():
        body = {name: value for name, value in body.items() if value is not None}
        policies = {
            "aws_cloudwatch_event_bus_policy": "policy of Events",
            "aws_sns_topic_policy": "policy of SNS",
            "aws_sqs_queue_policy": "policy of SQS",
        }
        if kind in policies:
            of = body.get("event_bus_name") or body.get("arn") or body.get("queue_url")
            facts.add(policies[kind], of.strip("<>").split(".")[0], statements=body["policy"])
        elif kind == "aws_cloudwatch_event_target":
            owner = body.pop("rule").strip("<>").split(".")[0]
            bus = body.pop("event_bus_name")
            facts.add("target of", owner, **body)
            if bus != "<bus.name>":
                raise KeyError(f"{label}: the target's bus is {bus}")
        elif kind == "aws_iam_role_policy":
            owner = body["role"].strip("<>").split(".")[0]
            facts.add("policy of role", owner, name=body["name"], statements=body["policy"])
        elif kind == "aws_iam_role_policy_attachment":
            owner = body["role"].strip("<>").split(".")[0]
            facts[f"aws_iam_role {owner}"].setdefault("managed", []).append(body["policy_arn"])
        else:
            facts.add(kind, label, **module_words(kind, body))
    return facts


def module_words(kind, body):
    body = dict(body)
    if kind == "aws_iam_role":
        body["trust"], body["managed"] = body.pop("assume_role_policy"), []
    for name in ("redrive_policy", "redrive_allow_policy"):
        if name in body:
            body[name] = json.loads(body[name])
    if kind == "aws_cloudwatch_event_rule":
        body["event_pattern"] = json.loads(body["event_pattern"])
    if kind == "aws_lambda_function":
        body["environment"] = body["environment"]["variables"]
    if kind == "aws_dynamodb_table":
        several = lambda name: body.get(name) if isinstance(body.get(name), list) else [body[name]] if name in body else []
        flat = lambda block: {key: value[0] if isinstance(value, list) else value for key, value in block.items()}
        body["attribute"] = sorted([flat(one)["name"], flat(one)["type"]] for one in several("attribute"))
        indexes = several("global_secondary_index")
        body["global_secondary_index"] = sorted(index_of_module(flat_index(one)) for one in indexes)
        body["is_kept"] = True
    return body


def flat_index(block):
    """A block's attributes come as lists of one."""
    return {key: value[0] if isinstance(value, list) and key != "non_key_attributes" else value for key, value in block.items()}


def differences(left, right, names=("the template", "the module")):
    """Where two sets of facts differ, a line each."""
    problems = []
    for key in sorted(set(left) | set(right)):
        if key not in left or key not in right:
            problems.append(f"{key}: only in {names[0] if key in left else names[1]}")
            continue
        for word in sorted(set(left[key]) | set(right[key])):
            values = [settled(facts[key].get(word)) for facts in (left, right)]
            if values[0] != values[1]:
                problems.append(f"{key}: `{word}` is {values[0]} in {names[0]}, {values[1]} in {names[1]}")
    return problems


def settled(value):
    """Numbers and truths as text, as both languages take them."""
    if isinstance(value, Statements) or isinstance(value, list):
        return [settled(one) for one in value]
    if isinstance(value, dict):
        return {key: settled(one) for key, one in value.items()}
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value
