//! An account as people know it.

use serde::{Deserialize, Serialize};

use crate::text;

/// Columns of a name, of an organizational unit, and of the digits.
const NAME_COLUMNS_MAX: usize = 40;
const ID_COLUMNS_MAX: usize = 20;

/// An account, as people know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountName {
    /// Twelve digits.
    pub id: String,
    /// Its name, where the configuration gives one.
    pub name: Option<String>,
    /// Its organizational unit, where the configuration gives one.
    pub unit: Option<String>,
}

impl AccountName {
    /// The same, cut and safe to show.
    #[must_use]
    pub fn shown(&self) -> Self {
        let cut = |text: &Option<String>| {
            let text = text.as_deref().map(str::trim).filter(|text| !text.is_empty());
            text.map(|text| text::cap(text, NAME_COLUMNS_MAX))
        };
        Self {
            id: text::cap(&self.id, ID_COLUMNS_MAX),
            name: cut(&self.name),
            unit: cut(&self.unit),
        }
    }

    /// The name where it is known, else the digits.
    #[must_use]
    pub fn short(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.clone())
    }

    /// `prod-payments 222233334444`; a no-break space keeps both on one line.
    #[must_use]
    pub fn with_id(&self) -> String {
        match &self.name {
            Some(name) => format!("{name}\u{a0}{}", self.id),
            None => self.id.clone(),
        }
    }
}
