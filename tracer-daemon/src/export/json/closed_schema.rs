//! For tests, here and in `tests/it/schema.rs`: the schema that allows nothing it does not describe.

use serde_json::{Value, json};

/// The schema with those inside that it refers to by their `$id`, and those that they refer to (JSON Schema 2020-12, 9.3, "bundling").
pub(crate) fn bundled(mut schema: Value) -> Value {
    let others = [
        include_str!("../../../../docs/schema/attach.schema.json"),
        include_str!("../../../../docs/schema/goroutines.schema.json"),
        include_str!("../../../../docs/schema/memory.schema.json"),
    ];
    let mut others = others.map(|other| serde_json::from_str::<Value>(other).unwrap_or_default()).to_vec();
    others.retain(|other| schema["$id"] != other["$id"]);
    loop {
        let text = schema.to_string();
        let is_named = |other: &Value| other["$id"].as_str().is_some_and(|id| text.contains(id));
        let Some(named) = others.iter().position(is_named) else { return schema };
        let other = others.swap_remove(named);
        let id = other["$id"].as_str().unwrap_or_default().to_owned();
        schema["$defs"][id] = other;
    }
}

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
