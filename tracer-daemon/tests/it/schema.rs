//! Process tests: what the program prints as JSON is what `docs/schema/` says, and nothing that it does not describe.

#[path = "../../src/export/json/closed_schema.rs"]
mod closed_schema;

use closed_schema::{bundled, closed};
use serde_json::Value;

use crate::{
    exact::knownsites,
    leakline::{Running, can_attach, leakline},
    target::Target,
};

#[track_caller]
fn prints_valid(arguments: &[&str], schema: &str) {
    let output = leakline(arguments);
    is_valid(&serde_json::from_slice(&output.stdout).unwrap(), schema);
}

#[track_caller]
pub(crate) fn is_valid(document: &Value, schema: &str) {
    let schema = closed(bundled(serde_json::from_str(schema).unwrap()));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let problems: Vec<String> =
        validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn attach_prints_what_its_schema_says() {
    if !can_attach("attach_prints_what_its_schema_says") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let running = Running::attach(target.pid(), &[]);
    target.say("go");
    assert_eq!(target.line(), "done");
    let document = running.report();
    is_valid(&document, include_str!("../../../docs/schema/attach.schema.json"));
    let goroutines = &document["goroutines"];
    for (total, of_the_runtime) in [("created", "system_created"), ("exited", "system_exited")] {
        let sites = goroutines["sites"].as_array().unwrap().iter().map(|site| site[total].as_u64().unwrap());
        assert_eq!(sites.sum::<u64>() + goroutines[of_the_runtime].as_u64().unwrap(), goroutines[total]);
    }
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
