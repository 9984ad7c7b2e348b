//! JSON schemas of values that several tables have.

use rootwatch_core::finding::{RootUse, Severity};
use schemars::{Schema, SchemaGenerator, json_schema};

pub(crate) fn severity_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = Severity::ALL.iter().map(|one| one.name()).collect();
    json_schema!({ "type": ["string", "null"], "enum": names })
}

pub(crate) fn root_uses_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = RootUse::ALL.iter().map(|one| one.name()).collect();
    json_schema!({ "type": "array", "items": { "type": "string", "enum": names } })
}

pub(crate) fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "description": "`env:NAME`, `file:PATH`, `aws-secret:ID`, `aws-ssm:NAME`, or the secret itself"
    })
}

pub(crate) fn secrets_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": secret_schema(generator) })
}
