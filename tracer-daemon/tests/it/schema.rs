//! Process tests: what the program prints as JSON is what `docs/schema/` says, and nothing that it does not describe.

use serde_json::{Value, json};

use crate::{exact::knownsites, leakline::leakline};

/// The schema with every object closed, so that an undescribed field is an error.
fn closed(mut schema: Value) -> Value {
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

#[track_caller]
fn prints_valid(arguments: &[&str], schema: &str) {
    let output = leakline(arguments);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema = closed(serde_json::from_str(schema).unwrap());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn doctor_prints_what_its_schema_says() {
    prints_valid(&["doctor", "--output", "json"], include_str!("../../../docs/schema/doctor.schema.json"));
}

#[test]
fn plan_prints_what_its_schema_says() {
    let schema = include_str!("../../../docs/schema/plan.schema.json");
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let program = knownsites(toolchain, &[]);
        prints_valid(&["plan", program.to_str().unwrap(), "--output", "json"], schema);
    }
}
