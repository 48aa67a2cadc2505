//! For tests, here and in `tests/it/schema.rs`: the schema that allows nothing it does not describe.

use serde_json::{Value, json};

/// The schema with every object closed: what a document may contain and still be fully described.
pub(crate) fn closed(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.get("type") == Some(&json!("object")) {
                map.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            for value in map.values_mut() {
                *value = closed(value.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = closed(item.take())),
        _ => {}
    }
    schema
}
