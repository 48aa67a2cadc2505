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
//! | map | tag 10, map | what is in it now: a change of what the key had last, or, of a new key, the value |
//! | variant | tag 11 | the same name, and a change of what it holds |
//! | any | tag 12 | another value, whole |
//! | other | scalar | another value |

use ciborium_ll::{Decoder, Encoder, Header, simple};

use super::node::{Entries, Key, Node};
use super::{DEPTH_MAX, RECORD_NODES_MAX, RecordingError};

/// A text, by its number.
const TEXT: u64 = 8;
/// A shared structure, by its number.
const SHARED: u64 = 9;
/// A map; without it, a structure.
const MAP: u64 = 10;
/// A variant: `[number of its name, value]`.
const VARIANT: u64 = 11;
/// A whole value where a change would be.
const REPLACED: u64 = 12;
/// Changes of a list.
const LIST: u64 = 13;

/// Most elements that a list is looked through for as new ones in front.
const IN_FRONT_MAX: usize = 16;

/// Writes CBOR to memory.
pub(super) struct Output<'a>(Encoder<&'a mut Vec<u8>>);

impl<'a> Output<'a> {
    /// Appends.
    pub(super) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self(Encoder::from(bytes))
    }

    pub(super) fn array(&mut self, length: usize) -> Result<(), RecordingError> {
        self.push(Header::Array(Some(length)))
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), RecordingError> {
        self.0.text(text, None).map_err(unwritten)
    }

    /// A number of at most 65 bits with its sign.
    pub(super) fn integer(&mut self, number: i128) -> Result<(), RecordingError> {
        self.push(header(number).ok_or(RecordingError::TooLarge { what: "a number", max: usize::MAX })?)
    }

    fn push(&mut self, header: Header) -> Result<(), RecordingError> {
        self.0.push(header).map_err(unwritten)
    }

    fn count(&mut self, count: usize) -> Result<(), RecordingError> {
        self.push(Header::Positive(count as u64))
    }

    fn key(&mut self, key: Key) -> Result<(), RecordingError> {
        match key {
            Key::Integer(number) => self.integer(number),
            Key::Text(text) => self.numbered(TEXT, text),
        }
    }

    fn numbered(&mut self, tag: u64, number: u32) -> Result<(), RecordingError> {
        self.push(Header::Tag(tag))?;
        self.push(Header::Positive(number.into()))
    }

    /// A whole value.
    pub(super) fn whole(&mut self, node: &Node) -> Result<(), RecordingError> {
        match node {
            Node::Null => self.push(Header::Simple(simple::NULL)),
            Node::Bool(value) => self.push(Header::Simple(if *value { simple::TRUE } else { simple::FALSE })),
            Node::Integer(number) => self.integer(*number),
            Node::Float(value) => self.push(Header::Float(*value)),
            Node::Text(number) => self.numbered(TEXT, *number),
            Node::Shared(number) => self.numbered(SHARED, *number),
            Node::List(nodes) => {
                self.array(nodes.len())?;
                nodes.iter().try_for_each(|node| self.whole(node))
            }
            Node::Struct(fields) => {
                self.push(Header::Map(Some(fields.len())))?;
                fields.iter().try_for_each(|(name, node)| {
                    self.push(Header::Positive((*name).into()))?;
                    self.whole(node)
                })
            }
            Node::Map(entries) => {
                self.push(Header::Tag(MAP))?;
                self.push(Header::Map(Some(entries.iter().len())))?;
                entries.iter().try_for_each(|(key, node)| {
                    self.key(*key)?;
                    self.whole(node)
                })
            }
            Node::Variant(name, node) => {
                self.push(Header::Tag(VARIANT))?;
                self.array(2)?;
                self.push(Header::Positive((*name).into()))?;
                self.whole(node)
            }
        }
    }

    /// What makes `new` of `base`, which then is the new one, with what its maps remember.
    pub(super) fn change(&mut self, base: &mut Node, new: Node) -> Result<(), RecordingError> {
        if new.is_same(base) {
            return self.push(Header::Simple(simple::UNDEFINED));
        }
        match (&mut *base, new) {
            (Node::Integer(before), Node::Integer(now)) => {
                match header(now - *before) {
                    Some(header) => self.push(header)?,
                    None => self.replace(&Node::Integer(now))?,
                }
                *before = now;
                Ok(())
            }
            (Node::Struct(before), Node::Struct(now)) if has_same_fields(before, &now) => {
                let changed = |(before, now): (&(u32, Node), &(u32, Node))| !now.1.is_same(&before.1);
                self.push(Header::Map(Some(before.iter().zip(&now).filter(|pair| changed(*pair)).count())))?;
                for (before, now) in before.iter_mut().zip(now) {
                    if changed((before, &now)) {
                        self.push(Header::Positive(now.0.into()))?;
                        self.change(&mut before.1, now.1)?;
                    }
                }
                Ok(())
            }
            (Node::List(before), Node::List(now)) => self.list(before, now),
            (Node::Map(before), Node::Map(now)) => {
                self.push(Header::Tag(MAP))?;
                self.push(Header::Map(Some(now.iter().len())))?;
                before.clear();
                for (key, node) in now.iter() {
                    self.key(*key)?;
                    if let Some(last) = before.again(*key)? {
                        self.change(last, node.clone())?;
                    } else {
                        self.whole(node)?;
                        before.put(*key, node.clone())?;
                    }
                }
                Ok(())
            }
            (Node::Variant(name, before), Node::Variant(now_name, now)) if *name == now_name => {
                self.push(Header::Tag(VARIANT))?;
                self.change(before, *now)
            }
            (before, now) => {
                match now {
                    Node::List(_) | Node::Struct(_) | Node::Map(_) | Node::Variant(..) => self.replace(&now)?,
                    _ => self.whole(&now)?,
                }
                *before = now;
                Ok(())
            }
        }
    }

    fn replace(&mut self, node: &Node) -> Result<(), RecordingError> {
        self.push(Header::Tag(REPLACED))?;
        self.whole(node)
    }

    fn list(&mut self, before: &mut Vec<Node>, now: Vec<Node>) -> Result<(), RecordingError> {
        let in_front = in_front(before, &now);
        let length = now.len();
        let kept = before.len().min(length - in_front);
        let places = || before.iter().zip(now.get(in_front..).unwrap_or_default()).enumerate();
        let changes = places().filter(|(_, (before, now))| !now.is_same(before)).count();
        self.push(Header::Tag(LIST))?;
        self.array(3 + in_front + 2 * changes + (length - in_front - kept))?;
        self.count(length)?;
        self.count(in_front)?;
        self.count(changes)?;
        let mut now = now.into_iter();
        let mut result: Vec<Node> = Vec::with_capacity(length);
        for node in now.by_ref().take(in_front) {
            self.whole(&node)?;
            result.push(node);
        }
        let mut since_change = 0_usize;
        for (mut before, now) in before.drain(..).zip(now.by_ref().take(kept)) {
            if now.is_same(&before) {
                since_change += 1;
            } else {
                self.count(std::mem::take(&mut since_change))?;
                self.change(&mut before, now)?;
            }
            result.push(before);
        }
        for node in now {
            self.whole(&node)?;
            result.push(node);
        }
        *before = result;
        Ok(())
    }
}

/// How many are new before the first one that was there.
fn in_front(before: &[Node], now: &[Node]) -> usize {
    let Some(first) = before.first() else { return 0 };
    let same = |skipped: usize| {
        let kept = now.get(skipped..).unwrap_or_default();
        before.iter().zip(kept).filter(|(before, now)| now.is_same(before)).count()
    };
    let candidates = now.iter().take(IN_FRONT_MAX).enumerate().skip(1).filter(|(_, node)| node.is_same(first));
    let best = candidates.map(|(skipped, _)| (same(skipped), skipped)).max_by_key(|(same, _)| *same);
    best.filter(|(count, _)| *count > same(0)).map_or(0, |(_, skipped)| skipped)
}

fn has_same_fields(one: &[(u32, Node)], other: &[(u32, Node)]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|((name, _), (other, _))| name == other)
}

fn header(number: i128) -> Option<Header> {
    match (u64::try_from(number), u64::try_from(!number)) {
        (Ok(positive), _) => Some(Header::Positive(positive)),
        (_, Ok(inverted)) => Some(Header::Negative(inverted)),
        _ => None,
    }
}

fn unwritten(error: impl std::fmt::Display) -> RecordingError {
    serde::ser::Error::custom(error)
}

/// A whole value by itself.
pub(super) fn write_whole(node: &Node) -> Result<Vec<u8>, RecordingError> {
    let mut bytes = Vec::new();
    Output::new(&mut bytes).whole(node)?;
    Ok(bytes)
}

/// Reads CBOR from memory.
pub(super) struct Input<'a> {
    decoder: Decoder<&'a [u8]>,
    /// Values made since the last [`Self::take_made`].
    made: usize,
    /// Bytes.
    length: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { decoder: Decoder::from(bytes), made: 0, length: bytes.len() }
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.decoder.offset() >= self.length
    }

    /// How many values were made since this was asked last.
    pub(super) fn take_made(&mut self) -> usize {
        std::mem::take(&mut self.made)
    }

    pub(super) fn array(&mut self) -> Result<usize, RecordingError> {
        match self.pull()? {
            Header::Array(Some(length)) => Ok(length),
            _ => Err(malformed("list")),
        }
    }

    fn integer(&mut self) -> Result<i128, RecordingError> {
        match self.pull()? {
            Header::Positive(number) => Ok(number.into()),
            Header::Negative(inverted) => Ok(!i128::from(inverted)),
            _ => Err(malformed("number")),
        }
    }

    pub(super) fn signed(&mut self) -> Result<i64, RecordingError> {
        i64::try_from(self.integer()?).map_err(|_beyond| malformed("number"))
    }

    pub(super) fn number(&mut self) -> Result<u32, RecordingError> {
        u32::try_from(self.integer()?).map_err(|_beyond| malformed("number"))
    }

    fn count(&mut self) -> Result<usize, RecordingError> {
        usize::try_from(self.integer()?).map_err(|_beyond| malformed("count"))
    }

    /// A text of at most so many bytes.
    pub(super) fn text(&mut self, bytes_max: usize) -> Result<Box<str>, RecordingError> {
        let length = match self.pull()? {
            Header::Text(Some(length)) if length <= bytes_max => length,
            Header::Text(Some(_)) => return Err(RecordingError::TooLarge { what: "a text", max: bytes_max }),
            _ => return Err(malformed("text")),
        };
        String::from_utf8(self.bytes(length)?).map(String::into_boxed_str).map_err(|_other| malformed("text"))
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, RecordingError> {
        if length > self.length {
            return Err(malformed("length"));
        }
        let mut bytes = vec![0; length];
        ciborium_io::Read::read_exact(&mut self.decoder, &mut bytes).map_err(|_end| malformed("end"))?;
        Ok(bytes)
    }

    fn pull(&mut self) -> Result<Header, RecordingError> {
        self.decoder.pull().map_err(|_error| malformed("value"))
    }

    /// Passes over a value.
    pub(super) fn skip(&mut self) -> Result<(), RecordingError> {
        let mut left = 1_usize;
        while let Some(rest) = left.checked_sub(1) {
            left = rest;
            let inside = match self.pull()? {
                Header::Array(Some(length)) => length,
                Header::Map(Some(length)) => length.checked_mul(2).ok_or_else(|| malformed("length"))?,
                Header::Tag(_) => 1,
                Header::Text(Some(length)) | Header::Bytes(Some(length)) => {
                    self.bytes(length)?;
                    0
                }
                Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => 0,
                // Of unknown length: never written.
                _ => return Err(malformed("value")),
            };
            left = left.checked_add(inside).ok_or_else(|| malformed("length"))?;
        }
        Ok(())
    }

    /// A whole value.
    pub(super) fn whole(&mut self) -> Result<Node, RecordingError> {
        let header = self.pull()?;
        self.whole_of(header, DEPTH_MAX)
    }

    fn whole_at(&mut self, depth: usize) -> Result<Node, RecordingError> {
        let header = self.pull()?;
        self.whole_of(header, depth)
    }

    fn whole_of(&mut self, header: Header, depth: usize) -> Result<Node, RecordingError> {
        self.made += 1;
        if self.made > RECORD_NODES_MAX {
            return Err(RecordingError::TooLarge { what: "values of one record", max: RECORD_NODES_MAX });
        }
        let depth = depth.checked_sub(1).ok_or(RecordingError::TooLarge { what: "depth", max: DEPTH_MAX })?;
        Ok(match header {
            Header::Positive(number) => Node::Integer(number.into()),
            Header::Negative(inverted) => Node::Integer(!i128::from(inverted)),
            Header::Float(value) => Node::Float(value),
            Header::Simple(simple::NULL) => Node::Null,
            Header::Simple(simple::FALSE) => Node::Bool(false),
            Header::Simple(simple::TRUE) => Node::Bool(true),
            Header::Tag(TEXT) => Node::Text(self.number()?),
            Header::Tag(SHARED) => Node::Shared(self.number()?),
            Header::Array(Some(length)) => {
                let mut nodes = Vec::with_capacity(length.min(RESERVED_MAX));
                for _ in 0..length {
                    nodes.push(self.whole_at(depth)?);
                }
                Node::List(nodes)
            }
            Header::Map(Some(length)) => {
                let mut fields = Vec::with_capacity(length.min(RESERVED_MAX));
                for _ in 0..length {
                    fields.push((self.number()?, self.whole_at(depth)?));
                }
                Node::Struct(fields)
            }
            Header::Tag(MAP) => {
                let mut entries = Entries::default();
                for _ in 0..self.map()? {
                    let key = self.key()?;
                    entries.put(key, self.whole_at(depth)?)?;
                }
                Node::Map(Box::new(entries))
            }
            Header::Tag(VARIANT) => {
                if self.array()? != 2 {
                    return Err(malformed("variant"));
                }
                Node::Variant(self.number()?, Box::new(self.whole_at(depth)?))
            }
            _ => return Err(malformed("value")),
        })
    }

    fn map(&mut self) -> Result<usize, RecordingError> {
        match self.pull()? {
            Header::Map(Some(length)) => Ok(length),
            _ => Err(malformed("map")),
        }
    }

    fn key(&mut self) -> Result<Key, RecordingError> {
        match self.pull()? {
            Header::Positive(number) => Ok(Key::Integer(number.into())),
            Header::Negative(inverted) => Ok(Key::Integer(!i128::from(inverted))),
            Header::Tag(TEXT) => Ok(Key::Text(self.number()?)),
            _ => Err(malformed("key")),
        }
    }

    /// Makes of `base` what it has become. After an error `base` is half of one and half of the other.
    pub(super) fn change(&mut self, base: &mut Node) -> Result<(), RecordingError> {
        self.change_at(base, DEPTH_MAX)
    }

    fn change_at(&mut self, base: &mut Node, depth: usize) -> Result<(), RecordingError> {
        let inner = depth.checked_sub(1).ok_or(RecordingError::TooLarge { what: "depth", max: DEPTH_MAX })?;
        match (self.pull()?, &mut *base) {
            (Header::Simple(simple::UNDEFINED), Node::Map(entries)) => entries.clear(),
            (Header::Simple(simple::UNDEFINED), _) => {}
            (Header::Positive(number), Node::Integer(before)) => *before = sum(*before, number.into())?,
            (Header::Negative(inverted), Node::Integer(before)) => *before = sum(*before, !i128::from(inverted))?,
            (Header::Map(Some(length)), Node::Struct(fields)) => {
                let mut rest = fields.iter_mut();
                for _ in 0..length {
                    let name = self.number()?;
                    let field = rest.find(|(known, _)| *known == name).ok_or_else(|| malformed("field"))?;
                    self.change_at(&mut field.1, inner)?;
                }
            }
            (Header::Tag(LIST), Node::List(nodes)) => self.list(nodes, inner)?,
            (Header::Tag(MAP), Node::Map(entries)) => {
                entries.clear();
                for _ in 0..self.map()? {
                    let key = self.key()?;
                    if let Some(last) = entries.again(key)? {
                        self.change_at(last, inner)?;
                    } else {
                        let node = self.whole_at(inner)?;
                        entries.put(key, node)?;
                    }
                }
            }
            (Header::Tag(VARIANT), Node::Variant(_, node)) => self.change_at(node, inner)?,
            (Header::Tag(REPLACED), node) => *node = self.whole_at(inner)?,
            (
                header @ (Header::Positive(_)
                | Header::Negative(_)
                | Header::Float(_)
                | Header::Simple(_)
                | Header::Tag(TEXT | SHARED)),
                node,
            ) => *node = self.whole_of(header, depth)?,
            _ => return Err(malformed("change")),
        }
        Ok(())
    }

    fn list(&mut self, nodes: &mut Vec<Node>, depth: usize) -> Result<(), RecordingError> {
        let items = self.array()?;
        let (length, in_front, changes) = (self.count()?, self.count()?, self.count()?);
        let kept = length.checked_sub(in_front).ok_or_else(|| malformed("length"))?;
        nodes.truncate(kept);
        let behind = kept - nodes.len();
        let expected = changes.checked_mul(2).and_then(|changes| 3_usize.checked_add(changes));
        let expected = expected.and_then(|count| count.checked_add(in_front)?.checked_add(behind));
        if expected != Some(items) {
            return Err(malformed("length"));
        }
        let mut front = Vec::with_capacity(in_front.min(RESERVED_MAX));
        for _ in 0..in_front {
            front.push(self.whole_at(depth)?);
        }
        let mut rest = nodes.iter_mut();
        for _ in 0..changes {
            let further = self.count()?;
            let node = rest.nth(further).ok_or_else(|| malformed("place"))?;
            self.change_at(node, depth)?;
        }
        for _ in 0..behind {
            let node = self.whole_at(depth)?;
            nodes.push(node);
        }
        if !front.is_empty() {
            nodes.splice(0..0, front);
        }
        Ok(())
    }
}

/// Elements for which room is made before they are there.
const RESERVED_MAX: usize = 64;

fn sum(before: i128, more: i128) -> Result<i128, RecordingError> {
    let sum = before.checked_add(more).filter(|sum| header(*sum).is_some());
    sum.ok_or_else(|| malformed("number"))
}

const fn malformed(what: &'static str) -> RecordingError {
    RecordingError::Malformed { what }
}
