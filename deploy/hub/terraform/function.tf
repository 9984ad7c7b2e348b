# The function, what it may do, and its schedule.

locals {
  environment = {
    ROOTWATCH_LOG                               = var.log_level
    ROOTWATCH_NOTIFY__DESTINATION__SNS__CHANNEL = "sns"
    ROOTWATCH_NOTIFY__DESTINATION__SNS__TOPIC   = aws_sns_topic.topic.arn
    ROOTWATCH_SOURCE__LAMBDA__BUCKETS           = jsonencode(var.log_buckets)
    ROOTWATCH_STORE__TABLE                      = aws_dynamodb_table.table.name
  }

  # Left out where there is nothing to say.
  environment_if_stated = {
    ROOTWATCH_CONFIG                = var.config
    ROOTWATCH_HUB__ORGANIZATION__ID = var.organization_id
  }
}

resource "aws_cloudwatch_log_group" "log_group" {
  name              = "/aws/lambda/${var.name}-hub"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_key_arn == "" ? null : var.log_key_arn
}

data "aws_iam_policy_document" "function_trust" {
  statement {
    effect  = "Allow"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  statement {
    sid     = "Log"
    effect  = "Allow"
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    # All streams of this one group; their names are Lambda's.
    resources = ["${aws_cloudwatch_log_group.log_group.arn}:*"]
  }

  statement {
    sid    = "ReadTheQueues"
    effect = "Allow"
    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      "sqs:ReceiveMessage",
    ]
    resources = [aws_sqs_queue.queue.arn, aws_sqs_queue.history.arn]
  }

  statement {
    sid       = "KeepFailedTicks"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.undelivered.arn]
  }

  statement {
    sid    = "Remember"
    effect = "Allow"
    # No Scan: nothing that the hub does may depend on one. Transactions need no action of their own.
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [aws_dynamodb_table.table.arn, "${aws_dynamodb_table.table.arn}/index/*"]
  }

  statement {
    sid       = "Publish"
    effect    = "Allow"
    actions   = ["sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic", "sns:Publish"]
    resources = [aws_sns_topic.topic.arn]
  }

  statement {
    sid       = "PublishEncrypted"
    effect    = "Allow"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey", "kms:GetKeyPolicy"]
    resources = [aws_kms_key.key.arn]
  }

  dynamic "statement" {
    for_each = length(var.log_buckets) == 0 ? [] : [1]

    content {
      sid       = "ReadLogFiles"
      effect    = "Allow"
      actions   = ["s3:GetObject"]
      resources = [for bucket in var.log_buckets : "arn:${local.partition}:s3:::${bucket}/*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.secret_arns) == 0 ? [] : [1]

    content {
      sid       = "ReadConfiguration"
      effect    = "Allow"
      actions   = ["secretsmanager:GetSecretValue", "ssm:GetParameter"]
      resources = var.secret_arns
    }
  }
}

resource "aws_iam_role" "function_role" {
  name               = "${var.name}-hub-${local.region}"
  description        = "Permissions of the hub's function."
  assume_role_policy = data.aws_iam_policy_document.function_trust.json
}

resource "aws_iam_role_policy" "function_role" {
  name   = "hub"
  role   = aws_iam_role.function_role.name
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_iam_role_policy_attachment" "function_role" {
  for_each = toset(var.extra_policy_arns)

  role       = aws_iam_role.function_role.name
  policy_arn = each.value
}

resource "aws_lambda_function" "function" {
  #checkov:skip=CKV_AWS_117:The function calls AWS and the destinations, and accepts no connections; in a VPC it would need a NAT or six endpoints, and fail with them.
  #checkov:skip=CKV_AWS_115:A new account has a quota of 10 and can reserve nothing. The event source mappings' MaximumConcurrency bounds it.
  #checkov:skip=CKV_AWS_173:No variable is a secret; secrets are read by reference from Secrets Manager or SSM.
  #checkov:skip=CKV_AWS_272:The user builds the package and names its bucket or file; a signing profile would be the user's.
  #checkov:skip=CKV_AWS_50:Rootwatch traces by OpenTelemetry where that is configured; X-Ray would add a cost and a right for nothing.
  function_name    = "${var.name}-hub"
  description      = "Rootwatch, the hub."
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = var.filename
  source_code_hash = var.filename == null ? null : filebase64sha256(var.filename)
  s3_bucket        = var.code_bucket
  s3_key           = var.code_key
  memory_size      = var.memory_size
  timeout          = 60
  role             = aws_iam_role.function_role.arn

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.log_group.name
  }

  # Of ticks alone: messages of the queues go back to them.
  dead_letter_config {
    target_arn = aws_sqs_queue.undelivered.arn
  }

  environment {
    variables = merge(local.environment, { for key, value in local.environment_if_stated : key => value if value != "" })
  }

  depends_on = [aws_iam_role_policy.function_role]

  lifecycle {
    precondition {
      condition     = (var.filename != null) != (var.code_bucket != null && var.code_key != null)
      error_message = "State either filename, or code_bucket and code_key."
    }
  }
}

resource "aws_lambda_function_url" "function_url" {
  function_name      = aws_lambda_function.function.function_name
  authorization_type = "AWS_IAM"
  invoke_mode        = "BUFFERED"
}

resource "aws_lambda_event_source_mapping" "consume" {
  count = var.consumer == "lambda" ? 1 : 0

  event_source_arn = aws_sqs_queue.queue.arn
  function_name    = aws_lambda_function.function.function_name
  # One transaction of the store serves many events, so a storm of a thousand calls is ten invocations. Above ten, AWS
  # wants a window of at least a second, and a second is what an alert may wait; Lambda cuts the batch to its payload
  # limit by itself.
  batch_size                         = 100
  maximum_batching_window_in_seconds = 1
  function_response_types            = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.maximum_concurrency
  }
}

resource "aws_lambda_event_source_mapping" "consume_history" {
  count = var.consumer == "lambda" && var.history_maximum_concurrency != 0 ? 1 : 0

  event_source_arn = aws_sqs_queue.history.arn
  function_name    = aws_lambda_function.function.function_name
  # A message names up to 25 objects of up to 16 MiB in all, and ten of them are read well within the function's timeout.
  # More at once would not be.
  batch_size                         = 10
  maximum_batching_window_in_seconds = 0
  function_response_types            = ["ReportBatchItemFailures"]

  # Of its own, so that a fan-out takes no instance away from consume.
  scaling_config {
    maximum_concurrency = var.history_maximum_concurrency
  }
}

# The tick: due deliveries, quiet incidents, escalations.

resource "aws_scheduler_schedule_group" "schedule_group" {
  name = var.name
}

data "aws_iam_policy_document" "schedule_trust" {
  statement {
    effect  = "Allow"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.schedule_group.arn]
    }
  }
}

data "aws_iam_policy_document" "schedule" {
  statement {
    sid       = "Call"
    effect    = "Allow"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.function.arn]
  }

  statement {
    sid       = "KeepFailedTicks"
    effect    = "Allow"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.undelivered.arn]
  }
}

resource "aws_iam_role" "schedule_role" {
  name               = "${var.name}-tick-${local.region}"
  description        = "Lets the schedule call the hub's function."
  assume_role_policy = data.aws_iam_policy_document.schedule_trust.json
}

resource "aws_iam_role_policy" "schedule_role" {
  name   = "tick"
  role   = aws_iam_role.schedule_role.name
  policy = data.aws_iam_policy_document.schedule.json
}

resource "aws_scheduler_schedule" "tick" {
  #checkov:skip=CKV_AWS_297:The schedule holds nothing but the word tick.
  name                = "${var.name}-tick"
  group_name          = aws_scheduler_schedule_group.schedule_group.name
  description         = "Due deliveries, quiet incidents, escalations."
  schedule_expression = "rate(1 minute)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.function.arn
    role_arn = aws_iam_role.schedule_role.arn
    input    = "{\"rootwatch\":\"tick\"}"

    # The next tick does what this one did not.
    retry_policy {
      maximum_retry_attempts       = 2
      maximum_event_age_in_seconds = 60
    }

    dead_letter_config {
      arn = aws_sqs_queue.undelivered.arn
    }
  }
}
