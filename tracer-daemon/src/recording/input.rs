//! Reads trees and changes of them, however hostile they are; `output.rs` writes them, `changes.rs` says how they look.

use ciborium_ll::{Decoder, Header, simple};

use super::changes::{ASCENDING, LIST, MAP, REPLACED, SHARED, TEXT, VARIANT, header};
use super::node::{Entries, Key, Node};
use super::{DEPTH_MAX, RECORD_NODES_MAX, RecordingError};

/// Reads CBOR from memory.
pub(super) struct Input<'a> {
    decoder: Decoder<&'a [u8]>,
    /// Values made since the last [`Self::take_made`].
    made: usize,
    /// Values that were moved or looked through and not made: few bytes can ask for many.
    passed: usize,
    /// Bytes.
    length: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { decoder: Decoder::from(bytes), made: 0, passed: 0, length: bytes.len() }
    }

    /// How many bytes were read.
    pub(super) fn offset(&mut self) -> usize {
        self.decoder.offset()
    }

    /// How many values of what was there before were moved or looked through.
    pub(super) fn passed(&self) -> usize {
        self.passed
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
        self.count_made()?;
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

    fn count_made(&mut self) -> Result<(), RecordingError> {
        self.made += 1;
        if self.made > RECORD_NODES_MAX {
            return Err(RecordingError::TooLarge { what: "values of one record", max: RECORD_NODES_MAX });
        }
        Ok(())
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
                    let before = rest.len();
                    let field = rest.find(|(known, _)| *known == name).ok_or_else(|| malformed("field"))?;
                    self.passed = self.passed.saturating_add(before - rest.len());
                    self.change_at(&mut field.1, inner)?;
                }
            }
            (Header::Tag(LIST), Node::List(nodes)) => self.list(nodes, inner)?,
            (Header::Tag(ASCENDING), Node::List(nodes)) => self.ascending(nodes)?,
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

    fn ascending(&mut self, nodes: &mut Vec<Node>) -> Result<(), RecordingError> {
        let mut items = self.array()?;
        self.passed = self.passed.saturating_add(nodes.len());
        let mut before = std::mem::take(nodes).into_iter();
        while let Some(rest) = items.checked_sub(3) {
            let (kept, dropped, new) = (self.count()?, self.count()?, self.count()?);
            if kept.checked_add(dropped).is_none_or(|count| count > before.len()) {
                return Err(malformed("length"));
            }
            nodes.extend(before.by_ref().take(kept));
            before.by_ref().take(dropped).for_each(drop);
            let mut last = match nodes.last() {
                Some(Node::Integer(last)) => *last,
                _ => 0,
            };
            items = rest.checked_sub(new).ok_or_else(|| malformed("length"))?;
            for _ in 0..new {
                last = sum(last, self.integer()?)?;
                self.count_made()?;
                nodes.push(Node::Integer(last));
            }
        }
        if items == 0 { Ok(()) } else { Err(malformed("length")) }
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
            self.passed = self.passed.saturating_add(nodes.len());
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
