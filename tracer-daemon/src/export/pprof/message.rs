//! The messages of profile.proto (github.com/google/pprof/proto/profile.proto), field by field. Texts are numbers of entries of
//! the string table, whose first is empty.

/// A profile.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    /// What is mapped where.
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    /// The locations of stacks.
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    /// The functions of locations.
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    /// All texts.
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    /// When, ns since 1970.
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    /// How long, ns.
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    /// What `period` is.
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    /// Between two samples.
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    /// For people.
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    /// The kind of value that is shown first.
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct ValueType {
    /// `inuse_space`, say.
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    /// `bytes`, say.
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

/// A stack with its values.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sample {
    /// Leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    /// One for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    /// What else is known.
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

/// Something that is known of a sample.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Label {
    /// What.
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    /// As text.
    #[prost(int64, tag = "2")]
    pub(super) text: i64,
    /// As number.
    #[prost(int64, tag = "3")]
    pub(super) number: i64,
}

/// A file in memory.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Mapping {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub(super) memory_start: u64,
    /// Behind the last.
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    /// What lies at the first address.
    #[prost(uint64, tag = "4")]
    pub(super) file_offset: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    /// What identifies it.
    #[prost(int64, tag = "6")]
    pub(super) build_id: i64,
    /// Whether all its locations have functions.
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
}

/// An address.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Location {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// 0: in none.
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    /// Where.
    #[prost(uint64, tag = "3")]
    pub(super) address: u64,
    /// The innermost inlined call first.
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
    /// Whether other functions have the same code.
    #[prost(bool, tag = "5")]
    pub(super) is_folded: bool,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Line {
    /// Its function.
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    /// From 1.
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Function {
    /// Not 0.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// For people.
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    /// For the linker.
    #[prost(int64, tag = "3")]
    pub(super) system_name: i64,
    /// Its source.
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
    /// Its first line.
    #[prost(int64, tag = "5")]
    pub(super) start_line: i64,
}
