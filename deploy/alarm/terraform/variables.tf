variable "log_group_name" {
  description = "The log group, in this account and region, that a multi-region trail delivers to."
  type        = string
}

variable "topic_arn" {
  description = "An SNS topic for the alarm, such as the hub's. Empty creates one."
  type        = string
  default     = ""
}

variable "email" {
  description = "Who is subscribed to the topic that is made here; the control passes only with a subscriber."
  type        = string
  default     = ""
}
