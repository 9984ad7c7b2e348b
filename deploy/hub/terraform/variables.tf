variable "name" {
  description = "Prefix of all names. The service control policies and alarms match this prefix; keep it."
  type        = string
  default     = "rootwatch"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.name))
    error_message = "A name is of lower case letters, digits and hyphens, and begins with a letter."
  }
}

variable "organization_id" {
  description = "The organization whose accounts may send events. Empty: only this account."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^o-[a-z0-9]{10,32}$", var.organization_id))
    error_message = "An organization's id begins with o-."
  }
}

variable "filename" {
  description = "The package on this machine. Either this, or code_bucket and code_key."
  type        = string
  default     = null
}

variable "code_bucket" {
  description = "The bucket, in this region, with the package."
  type        = string
  default     = null
}

variable "code_key" {
  description = "The package's key in it, rootwatch-lambda-arm64.zip or rootwatch-lambda-x86_64.zip."
  type        = string
  default     = null
}

variable "architecture" {
  description = "What the package was built for."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Packages are built for arm64 and x86_64."
  }
}

variable "memory_size" {
  description = "Memory of the function in MiB. A Lambda function's share of a processor grows with it."
  type        = number
  default     = 512
}

variable "maximum_concurrency" {
  description = <<-TEXT
    Instances of the function that read the queue at once. Bounds the load on the table without reserving concurrency,
    which a new account, with a quota of 10, does not have.
  TEXT
  type        = number
  default     = 2

  validation {
    condition     = var.maximum_concurrency >= 2 && var.maximum_concurrency <= 1000
    error_message = "Between 2 and 1000."
  }
}

variable "history_maximum_concurrency" {
  description = <<-TEXT
    Instances of the function that read the backfill queue at once: 2 to 1,000, or 0 to pause backfill. With
    maximum_concurrency it must stay below the account's free concurrency, or live alerts are throttled.
  TEXT
  type        = number
  default     = 2

  validation {
    condition = var.history_maximum_concurrency == 0 || (
      var.history_maximum_concurrency >= 2 && var.history_maximum_concurrency <= 1000
    )
    error_message = "Between 2 and 1000, or 0."
  }
}

variable "consumer" {
  description = <<-TEXT
    Consumer of the queues. `none` keeps events and backfill in them, at most 14 days: for an upgrade, or for another
    consumer.
  TEXT
  type        = string
  default     = "lambda"

  validation {
    condition     = contains(["lambda", "none"], var.consumer)
    error_message = "Either lambda or none."
  }
}

variable "config" {
  description = <<-TEXT
    Location of the configuration file, if there is one: `aws-ssm:NAME` or `aws-secret:ID`. The variables that this
    module sets take precedence.
  TEXT
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^aws-(ssm|secret):.+$", var.config))
    error_message = "It begins with aws-ssm: or aws-secret:."
  }
}

variable "secret_arns" {
  description = <<-TEXT
    ARNs of the SSM parameters and secrets that the function may read: that of the configuration, and those that it
    refers to.
  TEXT
  type        = list(string)
  default     = []
}

variable "log_buckets" {
  description = "Names of the buckets whose S3 notifications about CloudTrail log files the queue takes."
  type        = list(string)
  default     = []
}

variable "extra_policy_arns" {
  description = "Managed policies for the function that other channels need, such as one for Amazon SES."
  type        = list(string)
  default     = []
}

variable "archive_days" {
  description = "Days for which the bus archives events, for a replay. 0 for no archive."
  type        = number
  default     = 30
}

variable "log_retention_days" {
  description = "Days for which the function's own log is kept."
  type        = number
  default     = 365
}

variable "log_key_arn" {
  description = "The KMS key for the function's log. Empty for the service's own."
  type        = string
  default     = ""
}

variable "log_level" {
  description = "What the function logs."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["error", "warn", "info", "debug"], var.log_level)
    error_message = "One of error, warn, info and debug."
  }
}

variable "age_of_oldest_message_secs" {
  description = "How old the oldest message of the queue may be, in seconds, before the alarm is raised."
  type        = number
  default     = 300
}
