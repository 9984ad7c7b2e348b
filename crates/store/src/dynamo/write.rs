//! The writes of a transaction.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update,
};

use super::item::{Item, Key, Val};

/// One write of a transaction.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// Puts the item, replacing any existing one.
    Put(Key, Item),
    /// Puts the item if there is none.
    New(Key, Item),
    Delete(Key),
    /// Deletes the item if it exists.
    Take(Key),
    Edit(Edit),
    /// Writes nothing; the conditions have to hold.
    Check(Edit),
    /// Deletes the item if the conditions hold.
    Drop(Edit),
}

/// Changes to some attributes, and conditions on the item before.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    key: Key,
    sets: Vec<String>,
    adds: Vec<String>,
    removes: Vec<String>,
    conditions: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Edit {
    pub(super) fn of(key: Key) -> Self {
        Self {
            key,
            sets: Vec::new(),
            adds: Vec::new(),
            removes: Vec::new(),
            conditions: Vec::new(),
            names: HashMap::new(),
            values: HashMap::new(),
        }
    }

    fn name(&mut self, name: &str) -> String {
        let place = format!("#n{}", self.names.len());
        self.names.insert(place.clone(), name.to_owned());
        place
    }

    fn value(&mut self, value: impl Into<Val>) -> String {
        let place = format!(":v{}", self.values.len());
        self.values.insert(place.clone(), value.into().attribute());
        place
    }

    pub(super) fn set(mut self, name: &str, value: impl Into<Val>) -> Self {
        let (name, value) = (self.name(name), self.value(value));
        self.sets.push(format!("{name} = {value}"));
        self
    }

    pub(super) fn add(mut self, name: &str, number: i64) -> Self {
        let (name, value) = (self.name(name), self.value(number));
        self.adds.push(format!("{name} {value}"));
        self
    }

    pub(super) fn remove(mut self, name: &str) -> Self {
        let name = self.name(name);
        self.removes.push(name);
        self
    }

    /// Only if the attribute has this value.
    pub(super) fn is(mut self, name: &str, value: impl Into<Val>) -> Self {
        let (name, value) = (self.name(name), self.value(value));
        self.conditions.push(format!("{name} = {value}"));
        self
    }

    /// Only if the attribute is absent.
    pub(super) fn lacks(mut self, name: &str) -> Self {
        let name = self.name(name);
        self.conditions.push(format!("attribute_not_exists({name})"));
        self
    }

    /// Only if the attribute is present.
    pub(super) fn has(mut self, name: &str) -> Self {
        let name = self.name(name);
        self.conditions.push(format!("attribute_exists({name})"));
        self
    }

    fn expression(&self) -> String {
        let mut all = Vec::new();
        for (word, parts) in [("SET", &self.sets), ("ADD", &self.adds), ("REMOVE", &self.removes)] {
            if !parts.is_empty() {
                all.push(format!("{word} {}", parts.join(", ")));
            }
        }
        all.join(" ")
    }

    fn condition(&self) -> Option<String> {
        (!self.conditions.is_empty()).then(|| self.conditions.join(" AND "))
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        (!self.values.is_empty()).then(|| self.values.clone())
    }
}

impl Write {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::New(key, _) | Self::Delete(key) | Self::Take(key) => key,
            Self::Edit(edit) | Self::Check(edit) | Self::Drop(edit) => &edit.key,
        }
    }

    /// Approximate bytes that it adds to a transaction.
    pub(super) fn bytes(&self) -> usize {
        let body = match self {
            Self::Put(_, item) | Self::New(_, item) => item.bytes(),
            Self::Edit(edit) => 64 * edit.values.len(),
            _ => 0,
        };
        body + self.key().pk.len() + self.key().sk.len() + 128
    }

    pub(super) fn item(&self, table: &str) -> Result<TransactWriteItem, BuildError> {
        let new = TransactWriteItem::builder();
        let put = |key: &Key, item: &Item| {
            Put::builder().table_name(table).set_item(Some(item.attributes(key)))
        };
        let delete =
            |key: &Key| Delete::builder().table_name(table).set_key(Some(key.attributes()));
        Ok(match self {
            Self::Put(key, item) => new.put(put(key, item).build()?),
            Self::New(key, item) => {
                new.put(put(key, item).condition_expression("attribute_not_exists(pk)").build()?)
            }
            Self::Delete(key) => new.delete(delete(key).build()?),
            Self::Take(key) => {
                new.delete(delete(key).condition_expression("attribute_exists(pk)").build()?)
            }
            Self::Edit(edit) => new.update(
                Update::builder()
                    .table_name(table)
                    .set_key(Some(edit.key.attributes()))
                    .update_expression(edit.expression())
                    .set_condition_expression(edit.condition())
                    .set_expression_attribute_names(Some(edit.names.clone()))
                    .set_expression_attribute_values(edit.values())
                    .build()?,
            ),
            Self::Check(edit) => new.condition_check(
                ConditionCheck::builder()
                    .table_name(table)
                    .set_key(Some(edit.key.attributes()))
                    .set_condition_expression(edit.condition())
                    .set_expression_attribute_names(Some(edit.names.clone()))
                    .set_expression_attribute_values(edit.values())
                    .build()?,
            ),
            Self::Drop(edit) => new.delete(
                delete(&edit.key)
                    .set_condition_expression(edit.condition())
                    .set_expression_attribute_names(Some(edit.names.clone()))
                    .set_expression_attribute_values(edit.values())
                    .build()?,
            ),
        }
        .build())
    }
}
