//! A tree of keys with values as JSON texts: a summary or a config.

use std::collections::BTreeMap;

use crate::log_format::json;
use crate::log_format::proto::{Item, ItemsRecord, TypedValue};

/// A JSON object whose leaves are kept as text, so that numbers reach the server as they were
/// written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ItemTree(BTreeMap<String, ItemNode>);

/// A value, or a nested tree.
#[derive(Debug, Clone, PartialEq)]
enum ItemNode {
    Leaf(String),
    Branch(ItemTree),
}

impl ItemTree {
    /// Returns `true` if there are no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies a record.
    pub(crate) fn apply(&mut self, items: &ItemsRecord) {
        for item in &items.update {
            self.set(&path(item), value(item));
        }
        for item in &items.remove {
            self.remove(&path(item));
        }
    }

    /// Sets the value at a path.
    pub(crate) fn set(&mut self, path: &[&str], value: String) {
        match path {
            [] => {}
            [last] => {
                self.0.insert((*last).to_owned(), ItemNode::Leaf(value));
            }
            [first, rest @ ..] => {
                let node = self
                    .0
                    .entry((*first).to_owned())
                    .or_insert_with(|| ItemNode::Branch(Self::default()));
                if let ItemNode::Leaf(text) = node {
                    *node = ItemNode::Branch(Self::read(text));
                }
                if let ItemNode::Branch(tree) = node {
                    tree.set(rest, value);
                }
            }
        }
    }

    /// Adds the keys of `older` that are missing here.
    pub(crate) fn inherit(&mut self, older: &Self) {
        for (key, node) in &older.0 {
            self.0.entry(key.clone()).or_insert_with(|| node.clone());
        }
    }

    /// Reads the top level of a JSON object. Anything else becomes an empty tree.
    pub(crate) fn read(text: &str) -> Self {
        let members = json::members(text).into_iter();
        Self(
            members
                .map(|(key, value)| (key, ItemNode::Leaf(value.to_owned())))
                .collect(),
        )
    }

    /// Returns the top-level keys with their values as JSON.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node.text()))
    }

    /// Returns the top-level entries as a record.
    pub(crate) fn to_items(&self) -> ItemsRecord {
        let update = self.entries().map(|(key, value_json)| Item {
            key: key.to_owned(),
            value_json,
            ..Item::default()
        });
        ItemsRecord {
            update: update.collect(),
            remove: Vec::new(),
        }
    }

    /// Returns the tree as JSON.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("{");
        for (at, (key, node)) in self.0.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            json::put_string(key, &mut text);
            text.push(':');
            match node {
                ItemNode::Leaf(leaf) => text.push_str(leaf),
                ItemNode::Branch(tree) => text.push_str(&tree.text()),
            }
        }
        text.push('}');
        text
    }

    /// Removes the value at a path.
    fn remove(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.0.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(ItemNode::Branch(tree)) = self.0.get_mut(*first) {
                    tree.remove(rest);
                }
            }
        }
    }
}

impl ItemNode {
    fn text(&self) -> String {
        match self {
            Self::Leaf(text) => text.clone(),
            Self::Branch(tree) => tree.text(),
        }
    }
}

/// The greatest depth of a path. Deeper values are skipped.
const DEEPEST: usize = 100;

/// Returns the path of an item.
pub(crate) fn path(item: &Item) -> Vec<&str> {
    match item.nested_key.len() {
        0 => vec![&item.key],
        1..=DEEPEST => item.nested_key.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the value of an item as JSON. A malformed value becomes null, so that the line stays
/// readable.
pub(crate) fn value(item: &Item) -> String {
    let written = |text: &String| match json::is_valid(text) {
        true => text.clone(),
        false => "null".to_owned(),
    };
    match &item.typed {
        Some(TypedValue::Null(_)) => "null".to_owned(),
        Some(TypedValue::Bool(value)) => value.to_string(),
        Some(TypedValue::Integer(value)) => value.to_string(),
        Some(TypedValue::Number(value)) => json::float(*value),
        Some(TypedValue::Text(text)) => {
            let mut quoted = String::new();
            json::put_string(text, &mut quoted);
            quoted
        }
        Some(TypedValue::Json(text)) => written(text),
        None => written(&item.value_json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_set_and_removed() {
        let mut tree = ItemTree::default();
        tree.set(&["loss"], "NaN".to_owned());
        tree.set(&["_wandb"], r#"{"a":1}"#.to_owned());
        tree.set(&["_wandb", "runtime"], "3".to_owned());
        tree.set(&["x", "y"], "[1]".to_owned());
        assert_eq!(
            tree.text(),
            r#"{"_wandb":{"a":1,"runtime":3},"loss":NaN,"x":{"y":[1]}}"#
        );
        tree.remove(&["_wandb", "a"]);
        tree.remove(&["loss"]);
        assert_eq!(tree.text(), r#"{"_wandb":{"runtime":3},"x":{"y":[1]}}"#);
    }

    #[test]
    fn inherited_values_do_not_replace_newer_ones() {
        let mut tree = ItemTree::default();
        tree.set(&["lr"], "1".to_owned());
        tree.inherit(&ItemTree::read(r#"{"lr": 2, "depth": 3}"#));
        assert_eq!(tree.text(), r#"{"depth":3,"lr":1}"#);
    }

    #[test]
    fn numbers_keep_their_text() {
        let text = r#"{"a":NaN,"b":{"c":[-Infinity]},"d":1.50}"#;
        assert_eq!(ItemTree::read(text).text(), text);
    }

    #[test]
    fn malformed_items_become_null() {
        let item = |value: &str| Item {
            key: "x".to_owned(),
            value_json: value.to_owned(),
            ..Item::default()
        };
        for (written, read) in [
            ("1.5", "1.5"),
            ("NaN", "NaN"),
            ("{\"a\":", "null"),
            ("1}", "null"),
            ("", "null"),
        ] {
            assert_eq!(value(&item(written)), read);
        }
        let deep = Item {
            nested_key: vec!["a".to_owned(); 1_000_000],
            value_json: "1".to_owned(),
            ..Item::default()
        };
        let mut tree = ItemTree::default();
        tree.apply(&ItemsRecord {
            update: vec![deep.clone()],
            remove: vec![deep],
        });
        assert!(tree.is_empty());
    }
}
