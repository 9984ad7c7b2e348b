# The metric filter, alarm and topic for root use that the CIS benchmark asks for and that Security Hub (CloudWatch.1)
# and scanners look for. Equal to deploy/alarm/rootwatch-alarm.yaml; a test holds the two to each other.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}

resource "aws_cloudwatch_log_metric_filter" "filter" {
  name           = "RootAccountUsage"
  log_group_name = var.log_group_name
  # Letter for letter what Security Hub's documentation of CloudWatch.1 prescribes: with anything more or less, the
  # control fails.
  pattern = "{$.userIdentity.type=\"Root\" && $.userIdentity.invokedBy NOT EXISTS && $.eventType !=\"AwsServiceEvent\"}"

  metric_transformation {
    namespace = "LogMetrics"
    name      = "RootAccountUsage"
    value     = "1"
  }
}

resource "aws_cloudwatch_metric_alarm" "alarm" {
  alarm_name          = "RootAccountUsage"
  alarm_description   = "The root user of an account was used. Rootwatch, if it is there, says by whom and for what."
  namespace           = "LogMetrics"
  metric_name         = "RootAccountUsage"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.topic_arn == "" ? aws_sns_topic.topic[0].arn : var.topic_arn]
}

data "aws_iam_policy_document" "key" {
  #checkov:skip=CKV_AWS_109:A key's policy is about this one key; the account's root user must keep it, or the key is lost.
  #checkov:skip=CKV_AWS_111:A key's policy is about this one key; the account's root user must keep it, or the key is lost.
  #checkov:skip=CKV_AWS_356:A key's policy is about this one key; the account's root user must keep it, or the key is lost.
  statement {
    sid       = "ThisAccount"
    effect    = "Allow"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  statement {
    sid       = "Publishers"
    effect    = "Allow"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }
  }
}

# With the key that AWS manages, the alarm would be dropped without a word.
resource "aws_kms_key" "key" {
  count = var.topic_arn == "" ? 1 : 0

  description             = "Encrypts the topic for root use."
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_sns_topic" "topic" {
  count = var.topic_arn == "" ? 1 : 0

  name              = "root-account-usage"
  display_name      = "Root use"
  kms_master_key_id = aws_kms_key.key[0].arn
}

data "aws_iam_policy_document" "topic" {
  count = var.topic_arn == "" ? 1 : 0

  statement {
    sid       = "AlarmsOfThisAccount"
    effect    = "Allow"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic[0].arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }

  statement {
    sid       = "OnlyEncrypted"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic[0].arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sns_topic_policy" "topic" {
  count = var.topic_arn == "" ? 1 : 0

  arn    = aws_sns_topic.topic[0].arn
  policy = data.aws_iam_policy_document.topic[0].json
}

resource "aws_sns_topic_subscription" "subscription" {
  count = var.topic_arn == "" && var.email != "" ? 1 : 0

  topic_arn = aws_sns_topic.topic[0].arn
  protocol  = "email"
  endpoint  = var.email
}

output "topic_arn" {
  description = "The topic of the alarm."
  value       = var.topic_arn == "" ? aws_sns_topic.topic[0].arn : var.topic_arn
}
