# The topic of alerts and its key.

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

  # Without conditions on aws:SourceAccount or aws:SourceArn: EventBridge does not send them to KMS, and its messages
  # would be dropped. Who may publish is for the topic's policy.
  statement {
    sid       = "Publishers"
    effect    = "Allow"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com", "events.amazonaws.com"]
    }
  }
}

# With the key that AWS manages, alarms would be dropped without a word: its policy cannot let services in.
resource "aws_kms_key" "key" {
  description             = "Encrypts the topic of Rootwatch."
  enable_key_rotation     = true
  deletion_window_in_days = 30
  policy                  = data.aws_iam_policy_document.key.json
}

resource "aws_kms_alias" "key_alias" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.key.key_id
}

resource "aws_sns_topic" "topic" {
  name              = "${var.name}-alerts"
  display_name      = "Rootwatch"
  kms_master_key_id = aws_kms_key.key.arn
}

data "aws_iam_policy_document" "topic" {
  statement {
    sid       = "TheFunction"
    effect    = "Allow"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic.arn]

    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.function_role.arn]
    }
  }

  statement {
    sid       = "AlarmsOfThisAccount"
    effect    = "Allow"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic.arn]

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
    sid       = "RulesOfThisAccount"
    effect    = "Allow"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:events:${local.region}:${local.account}:rule/${var.name}*"]
    }
  }

  statement {
    sid       = "OnlyEncrypted"
    effect    = "Deny"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.topic.arn]

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
  arn    = aws_sns_topic.topic.arn
  policy = data.aws_iam_policy_document.topic.json
}
