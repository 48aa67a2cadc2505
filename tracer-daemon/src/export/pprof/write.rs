//! A profile as bytes.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use super::{Profile, ValueType, message};

/// The label that runtime/pprof gives to samples of a heap profile.
pub(super) const SIZE_LABEL: &str = "bytes";

impl Profile {
    /// The file: gzip of profile.proto. The same profile gives the same bytes.
    ///
    /// # Errors
    /// None that is known: it is written to memory.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&self.message().encode_to_vec())?;
        gzip.finish()
    }

    fn message(&self) -> message::Profile {
        let mut texts = Texts::default();
        texts.number("");
        let size_label = texts.number(SIZE_LABEL);
        message::Profile {
            sample_type: self.sample_types.iter().map(|kind| texts.value_type(kind)).collect(),
            sample: self
                .samples
                .iter()
                .map(|sample| message::Sample {
                    location_id: sample.locations.iter().map(|location| id(*location)).collect(),
                    value: sample.values.clone(),
                    label: sample
                        .size_bytes
                        .map(|number| message::Label { key: size_label, text: 0, number })
                        .into_iter()
                        .chain(sample.labels.iter().map(|(key, text)| message::Label {
                            key: texts.number(key),
                            text: texts.number(text),
                            number: 0,
                        }))
                        .collect(),
                })
                .collect(),
            mapping: self
                .mappings
                .iter()
                .enumerate()
                .map(|(number, mapping)| message::Mapping {
                    id: id(number),
                    memory_start: mapping.start,
                    memory_limit: mapping.end,
                    file_offset: mapping.file_offset,
                    filename: texts.number(&mapping.file),
                    build_id: texts.number(&mapping.build_id),
                    has_functions: mapping.has_functions,
                })
                .collect(),
            location: self
                .locations
                .iter()
                .enumerate()
                .map(|(number, location)| message::Location {
                    id: id(number),
                    mapping_id: location.mapping.map_or(0, id),
                    address: location.address,
                    line: location
                        .lines
                        .iter()
                        .map(|line| message::Line { function_id: id(line.function), line: line.line })
                        .collect(),
                    is_folded: false,
                })
                .collect(),
            function: self
                .functions
                .iter()
                .enumerate()
                .map(|(number, function)| {
                    let name = texts.number(&function.name);
                    message::Function {
                        id: id(number),
                        name,
                        system_name: name,
                        filename: texts.number(&function.file),
                        start_line: function.start_line,
                    }
                })
                .collect(),
            time_nanos: self.time_unix_ns,
            duration_nanos: self.duration_ns,
            period_type: Some(texts.value_type(&self.period_type)),
            period: self.period,
            default_sample_type: texts.number(&self.shown_first),
            comment: self.comments.iter().map(|comment| texts.number(comment)).collect(),
            // The last one: all others add to it.
            string_table: texts.all,
        }
    }
}

/// 0 stands for nothing.
fn id(number: usize) -> u64 {
    number as u64 + 1
}

/// The string table.
#[derive(Debug, Default)]
struct Texts {
    all: Vec<String>,
    numbers: HashMap<Arc<str>, i64>,
}

impl Texts {
    fn number(&mut self, text: &str) -> i64 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = i64::try_from(self.all.len()).unwrap_or(i64::MAX);
        self.all.push(text.to_owned());
        self.numbers.insert(text.into(), number);
        number
    }

    fn value_type(&mut self, kind: &ValueType) -> message::ValueType {
        message::ValueType { kind: self.number(&kind.kind), unit: self.number(&kind.unit) }
    }
}
