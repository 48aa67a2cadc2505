//! Bytes to a profile. One message at a time is decoded, so that a few bytes cannot ask for much memory.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::write::SIZE_LABEL;
use super::{Function, Line, Location, Mapping, Profile, Sample, ValueType, message};

/// Most bytes of a file.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
/// Most bytes of what a file holds, decompressed.
const PLAIN_BYTES_MAX: u64 = 256 << 20;
/// Most bytes of one sample, location, function or mapping.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Most samples, locations, functions and texts, of each.
const ENTRIES_MAX: usize = 1 << 20;
/// Most locations of all samples, and lines of all locations.
const REFERENCES_MAX: usize = 1 << 24;
/// Most values of a sample.
const VALUES_MAX: usize = 16;
/// Most mappings and comments, of each.
const FEW_MAX: usize = 1 << 14;

/// Why bytes are not a profile that we read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PprofError {
    /// It cannot be decompressed.
    #[error("not a pprof file: its gzip data is damaged or cut short")]
    Gzip {
        /// What was wrong.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "not a pprof file: {what} (a heap profile is what `leakline snapshot` writes, or what /debug/pprof/heap serves)"
    )]
    Other {
        /// What was seen instead.
        what: &'static str,
    },
    /// It is damaged.
    #[error("damaged pprof file: {what}")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is larger than we read.
    #[error("pprof file with too much in it: more than {most} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many are read.
        most: u64,
    },
}

fn damaged(what: &'static str) -> PprofError {
    PprofError::Damaged { what }
}

impl Profile {
    /// Reads a file: gzip or plain.
    ///
    /// # Errors
    /// Where it is no profile, is damaged, or is larger than any heap profile.
    pub fn parse(bytes: &[u8]) -> Result<Self, PprofError> {
        match bytes {
            [] => Err(PprofError::Other { what: "it is empty" }),
            [0x1f, 0x8b, ..] => {
                let mut plain = Vec::new();
                let read = MultiGzDecoder::new(bytes).take(PLAIN_BYTES_MAX + 1).read_to_end(&mut plain);
                read.map_err(|source| PprofError::Gzip { source })?;
                if plain.len() as u64 > PLAIN_BYTES_MAX {
                    return Err(PprofError::TooLarge { what: "bytes", most: PLAIN_BYTES_MAX });
                }
                Self::parse_plain(&plain)
            }
            // The text of /debug/pprof/heap?debug=1.
            [b'h', b'e', b'a', b'p', b' ', ..] => {
                Err(PprofError::Other { what: "it is a heap profile as text; ask for it without debug=1" })
            }
            plain => Self::parse_plain(plain),
        }
    }

    fn parse_plain(bytes: &[u8]) -> Result<Self, PprofError> {
        let mut raw = Raw::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            raw.field(&mut rest)?;
        }
        if raw.sample_types.is_empty() {
            return Err(PprofError::Other { what: "it does not say what was sampled" });
        }
        raw.resolve()
    }
}

/// What was decoded, with the ids and text numbers of the file.
#[derive(Debug, Default)]
struct Raw {
    texts: Vec<Arc<str>>,
    sample_types: Vec<message::ValueType>,
    period_type: message::ValueType,
    samples: Vec<message::Sample>,
    mappings: Vec<message::Mapping>,
    locations: Vec<message::Location>,
    functions: Vec<message::Function>,
    comments: Vec<i64>,
    numbers: Numbers,
    /// Locations of all samples and lines of all locations.
    references: usize,
}

#[derive(Debug, Default)]
struct Numbers {
    time_unix_ns: i64,
    duration_ns: i64,
    period: i64,
}

/// Adds to a list, up to its bound.
fn push<T>(list: &mut Vec<T>, entry: T, what: &'static str, most: usize) -> Result<(), PprofError> {
    if list.len() >= most {
        return Err(PprofError::TooLarge { what, most: most as u64 });
    }
    list.push(entry);
    Ok(())
}

fn decoded<M: Message + Default>(bytes: &[u8]) -> Result<M, PprofError> {
    M::decode(bytes).map_err(|_damaged| damaged("a part of it cannot be decoded"))
}

impl Raw {
    fn field(&mut self, rest: &mut &[u8]) -> Result<(), PprofError> {
        let not_a_field = |_damaged| PprofError::Other { what: "its bytes are not those of profile.proto" };
        let (tag, wire_type) = decode_key(rest).map_err(not_a_field)?;
        match wire_type {
            WireType::Varint => {
                let value = decode_varint(rest).map_err(not_a_field)?.cast_signed();
                match tag {
                    9 => self.numbers.time_unix_ns = value,
                    10 => self.numbers.duration_ns = value,
                    12 => self.numbers.period = value,
                    13 => push(&mut self.comments, value, "comments", FEW_MAX)?,
                    _ => {}
                }
                Ok(())
            }
            WireType::LengthDelimited => {
                let length = decode_varint(rest).map_err(not_a_field)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let (part, behind) = rest.split_at_checked(length).ok_or_else(|| damaged("it is cut short"))?;
                *rest = behind;
                if tag == 6 {
                    let text = String::from_utf8_lossy(part);
                    return push(&mut self.texts, text.into(), "texts", ENTRIES_MAX);
                }
                if length > MESSAGE_BYTES_MAX {
                    return Err(PprofError::TooLarge { what: "bytes in one part", most: MESSAGE_BYTES_MAX as u64 });
                }
                self.part(tag, part)
            }
            other => skip_field(other, tag, rest, DecodeContext::default()).map_err(not_a_field),
        }
    }

    fn part(&mut self, tag: u32, part: &[u8]) -> Result<(), PprofError> {
        match tag {
            1 => push(&mut self.sample_types, decoded(part)?, "sample types", VALUES_MAX),
            2 => {
                let mut sample: message::Sample = decoded(part)?;
                sample.label.retain(|label| label.text == 0);
                sample.label.truncate(VALUES_MAX);
                sample.label.shrink_to_fit();
                self.refer(sample.location_id.len())?;
                push(&mut self.samples, sample, "samples", ENTRIES_MAX)
            }
            3 => push(&mut self.mappings, decoded(part)?, "mappings", FEW_MAX),
            4 => {
                let location: message::Location = decoded(part)?;
                self.refer(location.line.len())?;
                push(&mut self.locations, location, "locations", ENTRIES_MAX)
            }
            5 => push(&mut self.functions, decoded(part)?, "functions", ENTRIES_MAX),
            11 => {
                self.period_type = decoded(part)?;
                Ok(())
            }
            // Packed.
            13 => {
                let mut rest = part;
                while !rest.is_empty() {
                    let number = decode_varint(&mut rest).map_err(|_damaged| damaged("its comments"))?;
                    push(&mut self.comments, number.cast_signed(), "comments", FEW_MAX)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn refer(&mut self, more: usize) -> Result<(), PprofError> {
        self.references = self.references.saturating_add(more);
        if self.references > REFERENCES_MAX {
            return Err(PprofError::TooLarge { what: "locations in samples", most: REFERENCES_MAX as u64 });
        }
        Ok(())
    }

    fn text(&self, number: i64) -> Result<Arc<str>, PprofError> {
        let text = usize::try_from(number).ok().and_then(|number| self.texts.get(number));
        text.map(Arc::clone).ok_or_else(|| damaged("it refers to a text that is not there"))
    }

    fn value_type(&self, raw: message::ValueType) -> Result<ValueType, PprofError> {
        Ok(ValueType { kind: self.text(raw.kind)?, unit: self.text(raw.unit)? })
    }

    /// Ids and numbers become places in lists.
    fn resolve(mut self) -> Result<Profile, PprofError> {
        let no_period = self.texts.is_empty();
        let mappings = ids(self.mappings.iter().map(|mapping| mapping.id));
        let functions = ids(self.functions.iter().map(|function| function.id));
        let locations = ids(self.locations.iter().map(|location| location.id));
        let (raw_samples, raw_locations) = (std::mem::take(&mut self.samples), std::mem::take(&mut self.locations));
        let mut profile = Profile {
            sample_types: self.sample_types.iter().map(|kind| self.value_type(*kind)).collect::<Result<_, _>>()?,
            period_type: if no_period { ValueType::default() } else { self.value_type(self.period_type)? },
            period: self.numbers.period,
            time_unix_ns: self.numbers.time_unix_ns,
            duration_ns: self.numbers.duration_ns,
            comments: self.comments.iter().map(|comment| self.text(*comment)).collect::<Result<_, _>>()?,
            ..Profile::default()
        };
        for mapping in &self.mappings {
            profile.mappings.push(Mapping {
                start: mapping.memory_start,
                end: mapping.memory_limit,
                file_offset: mapping.file_offset,
                file: self.text(mapping.filename)?,
                build_id: self.text(mapping.build_id)?,
                has_functions: mapping.has_functions,
            });
        }
        for function in &self.functions {
            profile.functions.push(Function {
                name: self.text(function.name)?,
                file: self.text(function.filename)?,
                start_line: function.start_line,
            });
        }
        for location in raw_locations {
            let line = |line: &message::Line| {
                let function = functions.get(&line.function_id).copied();
                let function = function.ok_or_else(|| damaged("a line refers to a function that is not there"))?;
                Ok(Line { function, line: line.line })
            };
            profile.locations.push(Location {
                mapping: mappings.get(&location.mapping_id).copied(),
                address: location.address,
                lines: location.line.iter().map(line).collect::<Result<_, PprofError>>()?,
            });
        }
        for sample in raw_samples {
            if sample.value.len() != profile.sample_types.len() {
                return Err(damaged("a sample has not one value for each sample type"));
            }
            let place = |id: &u64| locations.get(id).copied();
            let places: Option<Vec<usize>> = sample.location_id.iter().map(place).collect();
            let size = sample.label.iter().find(|label| self.text(label.key).is_ok_and(|key| &*key == SIZE_LABEL));
            profile.samples.push(Sample {
                locations: places.ok_or_else(|| damaged("a sample refers to a location that is not there"))?,
                values: sample.value,
                size_bytes: size.map(|label| label.number),
                labels: Vec::new(),
            });
        }
        Ok(profile)
    }
}

/// Where each id stands; 0 stands for nothing.
fn ids(ids: impl Iterator<Item = u64>) -> HashMap<u64, usize> {
    ids.enumerate().filter(|(_, id)| *id != 0).map(|(place, id)| (id, place)).collect()
}
