# Alarms: who watches Rootwatch.

resource "aws_cloudwatch_metric_alarm" "dead_letters_alarm" {
  alarm_name          = "${var.name}-dead-letters"
  alarm_description   = "Messages that the function failed on. Read its log, then redrive the queue."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "history_dead_letters_alarm" {
  alarm_name          = "${var.name}-history-dead-letters"
  alarm_description   = "Log files of a fan-out that the function failed on. Read its log, then redrive the queue."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.history_dead_letters.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

# Backfill may wait, but SQS deletes messages after 14 days, unread. An alarm at ten days leaves four to act in.
resource "aws_cloudwatch_metric_alarm" "history_oldest_message_alarm" {
  alarm_name          = "${var.name}-history-oldest-message"
  alarm_description   = "Log files of a fan-out have waited for ten days. After fourteen the queue deletes them, unread."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.history.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 864000
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "undelivered_alarm" {
  alarm_name          = "${var.name}-undelivered"
  alarm_description   = "Events or ticks that reached neither the queue nor the function."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.undelivered.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "oldest_message_alarm" {
  alarm_name          = "${var.name}-oldest-message"
  alarm_description   = "Events wait in the queue for too long. Root use is not alerted on meanwhile."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.queue.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 2
  threshold           = var.age_of_oldest_message_secs
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "errors_alarm" {
  alarm_name          = "${var.name}-errors"
  alarm_description   = "The function failed. Its input is retried; read its log."
  namespace           = "AWS/Lambda"
  metric_name         = "Errors"
  dimensions          = { FunctionName = aws_lambda_function.function.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "throttles_alarm" {
  alarm_name          = "${var.name}-throttles"
  alarm_description   = "The account has too little Lambda concurrency left for the function."
  namespace           = "AWS/Lambda"
  metric_name         = "Throttles"
  dimensions          = { FunctionName = aws_lambda_function.function.function_name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 3
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "no_tick_alarm" {
  alarm_name = "${var.name}-no-tick"
  # Of the schedule and not of the function, which events would keep busy while nothing ticks.
  alarm_description   = "The schedule does not call the function. Due deliveries are not retried."
  namespace           = "AWS/Scheduler"
  metric_name         = "InvocationAttemptCount"
  dimensions          = { ScheduleGroup = aws_scheduler_schedule_group.schedule_group.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "no_invocation_alarm" {
  alarm_name          = "${var.name}-no-invocation"
  alarm_description   = "The function has not run for five minutes, although it is called every minute."
  namespace           = "AWS/Lambda"
  metric_name         = "Invocations"
  dimensions          = { FunctionName = aws_lambda_function.function.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}

resource "aws_cloudwatch_metric_alarm" "deliveries_failed_alarm" {
  alarm_name        = "${var.name}-deliveries-failed"
  alarm_description = "Alerts could not be delivered to a destination. The hub retries, then escalates."
  # The function writes this metric into its log (embedded metric format), without dimensions.
  namespace           = "Rootwatch"
  metric_name         = "DeliveriesFailed"
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.topic.arn]
  ok_actions          = [aws_sns_topic.topic.arn]
}
