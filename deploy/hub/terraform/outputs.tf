output "bus_arn" {
  description = "The bus that spokes forward to. Their parameters are this account, this region and the bus's name."
  value       = aws_cloudwatch_event_bus.bus.arn
}

output "queue_url" {
  description = "The queue in front of the function."
  value       = aws_sqs_queue.queue.url
}

output "queue_arn" {
  description = "Where buckets send S3 notifications."
  value       = aws_sqs_queue.queue.arn
}

output "dead_letters_url" {
  description = "Messages that the function failed on."
  value       = aws_sqs_queue.dead_letters.url
}

output "history_queue_url" {
  description = "The backfill queue, for `rootwatch scan --fan-out` and `scan status`."
  value       = aws_sqs_queue.history.url
}

output "history_dead_letters_url" {
  description = "Messages of the backfill queue that the function failed on."
  value       = aws_sqs_queue.history_dead_letters.url
}

output "undelivered_url" {
  description = "Events or ticks that reached neither the queue nor the function."
  value       = aws_sqs_queue.undelivered.url
}

output "topic_arn" {
  description = "The topic to subscribe to."
  value       = aws_sns_topic.topic.arn
}

output "table_name" {
  description = "The table with the hub's state."
  value       = aws_dynamodb_table.table.name
}

output "function_name" {
  description = "The hub's function."
  value       = aws_lambda_function.function.function_name
}

output "function_role_arn" {
  description = "The function's role."
  value       = aws_iam_role.function_role.arn
}

output "function_url" {
  description = "The HTTP API, for identities that may invoke it (AWS_IAM)."
  value       = aws_lambda_function_url.function_url.function_url
}
