//! `docs/metrics.md`, made from the table.

use std::fmt::Write as _;

use super::table::{Base, TABLE};

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Made from the table in `tracer-daemon/src/export/metrics/table.rs`; to make it again: \
         `UPDATE_EXPECT=1 cargo test -p tracer-daemon --lib metrics_reference`.\n\n\
         *identity* stands for the labels `namespace`, `pod`, `container` (each only where it is known) and `service` (the \
         container's name, else the executable's); with `--pid-label` also `pid`. Processes of one identity are summed, and \
         a counter stays when a process ends. `site` is 16 hex digits, the same over restarts and rebuilds, or `other`.\n\n\
         Served as OpenMetrics 1.0.0 to a client that accepts it, else in the classic text format, where the names are the \
         same and an info is a gauge. What was not measured has no series.\n\n\
         | metric | type | unit | labels | |\n|---|---|---|---|---|\n",
    );
    for definition in TABLE {
        let labels = definition.by_identity.then_some("*identity*".to_owned()).into_iter();
        let labels: Vec<String> = labels.chain(definition.labels.iter().map(|label| format!("`{label}`"))).collect();
        // Writing to a String cannot fail.
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            definition.sample_name(),
            definition.kind.name(),
            definition.unit.map_or("", Base::name),
            labels.join(", "),
            definition.help,
        )
        .unwrap_or_default();
    }
    page
}
