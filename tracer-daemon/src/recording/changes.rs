//! How a tree is written, whole or as what has changed since the last one of its kind, and how it is read.
//!
//! CBOR (RFC 8949) with tags of its own, below 24 so that they take one byte. What a change means depends on what it is a change of:
//!
//! | base | written | means |
//! |---|---|---|
//! | any | undefined | the same |
//! | integer | integer | so much more |
//! | structure | map | the fields that changed, in their order |
//! | list | tag 13, array | `[length, new in front, changes, the new ones …, (places further on, change) …, those behind the last …]` |
//! | list of ascending integers | tag 14, array | `[kept, dropped, how many new ones, the new ones as how much more than the one before …, …]` |
//! | map | tag 10, map | what is in it now: a change of what the key had last, or, of a new key, the value |
//! | variant | tag 11 | the same name, and a change of what it holds |
//! | any | tag 12 | another value, whole |
//! | other | scalar | another value |

use ciborium_ll::Header;

/// A text, by its number.
pub(super) const TEXT: u64 = 8;
/// A shared structure, by its number.
pub(super) const SHARED: u64 = 9;
/// A map; without it, a structure.
pub(super) const MAP: u64 = 10;
/// A variant: `[number of its name, value]`.
pub(super) const VARIANT: u64 = 11;
/// A whole value where a change would be.
pub(super) const REPLACED: u64 = 12;
/// Changes of a list.
pub(super) const LIST: u64 = 13;
/// Changes of a list of ascending integers.
pub(super) const ASCENDING: u64 = 14;

/// How an integer of at most 65 bits with its sign is written.
pub(super) fn header(number: i128) -> Option<Header> {
    match (u64::try_from(number), u64::try_from(!number)) {
        (Ok(positive), _) => Some(Header::Positive(positive)),
        (_, Ok(inverted)) => Some(Header::Negative(inverted)),
        _ => None,
    }
}
