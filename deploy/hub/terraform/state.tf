# The table with the hub's state.

resource "aws_dynamodb_table" "table" {
  #checkov:skip=CKV_AWS_119:Encrypted with the key that AWS manages in this account. With one of our own, every reader of the table would need rights on the key, and a disabled key would blind the hub.
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  deletion_protection_enabled = true
  hash_key                    = "pk"
  range_key                   = "sk"

  # As crates/store/src/dynamo/schema.rs has it.
  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  attribute {
    name = "gpk"
    type = "S"
  }

  attribute {
    name = "gsk"
    type = "S"
  }

  global_secondary_index {
    name            = "list"
    hash_key        = "gpk"
    range_key       = "gsk"
    projection_type = "KEYS_ONLY"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  # The key that AWS manages for DynamoDB in this account.
  server_side_encryption {
    enabled = true
  }

  lifecycle {
    prevent_destroy = true
  }
}
