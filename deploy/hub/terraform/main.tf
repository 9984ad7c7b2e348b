# The bus that spokes forward to, and the rules that put what came into the queue. Equal to
# deploy/hub/rootwatch-hub.yaml; a test holds the two to each other.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name

  # What crates/core/src/forwarding.rs defines; a test holds these to it.
  rules = {
    root-use  = "Rootwatch: root use in all its forms"
    watchers  = "Rootwatch: changes to what records, delivers and alarms in the account"
    detectors = "Rootwatch: changes to what detects in the account"
    lifecycle = "Rootwatch: changes to the account and the organization"
    drill     = "Rootwatch: drills, synthetic events that test the path"
  }
}

resource "aws_cloudwatch_event_bus" "bus" {
  name        = var.name
  description = "The bus that spokes forward to."
}

data "aws_iam_policy_document" "bus" {
  statement {
    sid       = "OnlyTheOrganizationAndOnlyTheseSources"
    effect    = "Allow"
    actions   = ["events:PutEvents"]
    resources = ["arn:${local.partition}:events:${local.region}:${local.account}:event-bus/${var.name}"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:PrincipalOrgID"
      values   = [var.organization_id]
    }

    # `events:source` is a list, hence ForAllValues, which is also true of an empty one, hence Null. AWS itself refuses
    # sources that begin with `aws.` from everybody but its services, so that only what CloudTrail said can come in.
    condition {
      test     = "ForAllValues:StringLike"
      variable = "events:source"
      values   = ["aws.*", "rootwatch.drill"]
    }

    condition {
      test     = "Null"
      variable = "events:source"
      values   = ["false"]
    }
  }
}

resource "aws_cloudwatch_event_bus_policy" "bus" {
  count = var.organization_id == "" ? 0 : 1

  event_bus_name = aws_cloudwatch_event_bus.bus.name
  policy         = data.aws_iam_policy_document.bus.json
}

resource "aws_cloudwatch_event_archive" "archive" {
  count = var.archive_days == 0 ? 0 : 1

  name             = var.name
  description      = "Received events, for a replay."
  event_source_arn = aws_cloudwatch_event_bus.bus.arn
  retention_days   = var.archive_days
}

resource "aws_cloudwatch_event_rule" "rule" {
  for_each = local.rules

  name           = "${var.name}-${each.key}"
  description    = each.value
  event_bus_name = aws_cloudwatch_event_bus.bus.name
  # With plain ENABLED, EventBridge does not deliver read-only calls, here as at the spoke.
  state         = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
  event_pattern = file("${path.module}/patterns/${each.key}.json")
}

resource "aws_cloudwatch_event_target" "queue" {
  for_each = local.rules

  target_id      = "queue"
  rule           = aws_cloudwatch_event_rule.rule[each.key].name
  event_bus_name = aws_cloudwatch_event_bus.bus.name
  arn            = aws_sqs_queue.queue.arn

  retry_policy {
    maximum_retry_attempts       = 185
    maximum_event_age_in_seconds = 86400
  }

  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }
}
