output "bus_arn" {
  description = "What spokes forward to. Their parameters are this account, this region and the bus's name."
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
  description = "Messages that the function gave up."
  value       = aws_sqs_queue.dead_letters.url
}

output "history_queue_url" {
  description = "For `rootwatch scan --fan-out` and `scan status`. Log files of the past wait here for the function."
  value       = aws_sqs_queue.history.url
}

output "history_dead_letters_url" {
  description = "Messages of the queue of history that the function gave up."
  value       = aws_sqs_queue.history_dead_letters.url
}

output "undelivered_url" {
  description = "Events or ticks that came neither to the queue nor to the function."
  value       = aws_sqs_queue.undelivered.url
}

output "topic_arn" {
  description = "Subscribe to this."
  value       = aws_sns_topic.topic.arn
}

output "table_name" {
  description = "What the hub remembers."
  value       = aws_dynamodb_table.table.name
}

output "function_name" {
  description = "The hub's function."
  value       = aws_lambda_function.function.function_name
}

output "function_role_arn" {
  description = "Its role."
  value       = aws_iam_role.function_role.arn
}

output "function_url" {
  description = "The API and the dashboard, for identities that may invoke it (AWS_IAM)."
  value       = aws_lambda_function_url.function_url.function_url
}
