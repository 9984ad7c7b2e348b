//! The table itself.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableStatus, TimeToLiveSpecification,
};
use std::time::Duration;

use crate::StoreError;

/// What a table for this store looks like, for templates to be compared with: all attributes are
/// strings, it is billed by request, and DynamoDB deletes by [`TableShape::ttl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableShape {
    /// The partition key and the sort key.
    pub key: [&'static str; 2],
    /// The name of the one global secondary index, which has keys only.
    pub index: &'static str,
    /// Its partition key and sort key.
    pub index_key: [&'static str; 2],
    /// The attribute with the second at which DynamoDB may delete an item.
    pub ttl: &'static str,
}

/// The shape of the table.
pub const TABLE: TableShape = TableShape {
    key: ["pk", "sk"],
    index: super::LIST_INDEX,
    index_key: ["gpk", "gsk"],
    ttl: "ttl",
};

/// How often, and at which interval, to check that a new table is active.
const LOOKS_MAX: u32 = 240;
const LOOK_PAUSE: Duration = Duration::from_millis(500);

fn failed(name: &str, error: &(dyn std::error::Error + 'static)) -> StoreError {
    let text = DisplayErrorContext(error).to_string();
    StoreError::Unavailable { reason: format!("the DynamoDB table {name}: {text}") }
}

fn keys([partition, sort]: [&str; 2]) -> Vec<KeySchemaElement> {
    [(partition, KeyType::Hash), (sort, KeyType::Range)]
        .into_iter()
        .filter_map(|(name, kind)| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().ok()
        })
        .collect()
}

/// Creates the table and waits until it is active; false if it exists.
pub(super) async fn create(client: &Client, name: &str) -> Result<bool, StoreError> {
    let attributes = TABLE.key.iter().chain(&TABLE.index_key).filter_map(|name| {
        let text = ScalarAttributeType::S;
        AttributeDefinition::builder().attribute_name(*name).attribute_type(text).build().ok()
    });
    let projection = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
    let index = GlobalSecondaryIndex::builder()
        .index_name(TABLE.index)
        .set_key_schema(Some(keys(TABLE.index_key)))
        .projection(projection)
        .build()
        .map_err(|error| failed(name, &error))?;
    let created = client
        .create_table()
        .table_name(name)
        .set_attribute_definitions(Some(attributes.collect()))
        .set_key_schema(Some(keys(TABLE.key)))
        .global_secondary_indexes(index)
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await;
    let is_new = match created {
        Ok(_) => true,
        Err(error) if error.code() == Some("ResourceInUseException") => false,
        Err(error) => return Err(failed(name, &error)),
    };
    let mut looks = 0;
    loop {
        let described = client.describe_table().table_name(name).send().await;
        let table = described.map_err(|error| failed(name, &error))?.table;
        if table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
            break;
        }
        looks += 1;
        if looks == LOOKS_MAX {
            return Err(StoreError::Unavailable {
                reason: format!("the DynamoDB table {name} is still not active"),
            });
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    if is_new {
        let ttl = TimeToLiveSpecification::builder().enabled(true).attribute_name(TABLE.ttl);
        let ttl = ttl.build().map_err(|error| failed(name, &error))?;
        let update = client.update_time_to_live().table_name(name).time_to_live_specification(ttl);
        update.send().await.map_err(|error| failed(name, &error))?;
    }
    Ok(is_new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template and the Terraform module are held to each other by `deploy/check.py`; this holds
    /// both to the store.
    #[test]
    fn the_deployed_table_has_this_shape() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/hub/rootwatch-hub.yaml");
        let template = std::fs::read_to_string(path).expect("the template");
        let table = template.split("\n  Table:\n").nth(1).expect("a table");
        let table = table.split("\n  # ----").next().expect("its end");
        let [partition, sort] = TABLE.key;
        let [index_partition, index_sort] = TABLE.index_key;
        let mut wanted = vec![
            format!("IndexName: {}\n", TABLE.index),
            format!("AttributeName: {}, Enabled: true", TABLE.ttl),
            "ProjectionType: KEYS_ONLY".to_owned(),
        ];
        for (name, kind) in
            [(partition, "HASH"), (sort, "RANGE"), (index_partition, "HASH"), (index_sort, "RANGE")]
        {
            wanted.push(format!("AttributeName: {name}, KeyType: {kind}"));
            wanted.push(format!("AttributeName: {name}, AttributeType: S"));
        }
        for part in &wanted {
            assert_eq!(table.matches(part.as_str()).count(), 1, "{part}\n{table}");
        }
        assert_eq!(table.matches("AttributeType: ").count(), 4);
        assert_eq!(table.matches("IndexName: ").count(), 1);
    }
}
