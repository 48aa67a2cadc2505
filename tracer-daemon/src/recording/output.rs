//! Writes trees and changes of them; `input.rs` reads them, `changes.rs` says how they look.

use ciborium_ll::{Encoder, Header, simple};

use super::RecordingError;
use super::changes::{ASCENDING, LIST, MAP, REPLACED, SHARED, TEXT, VARIANT, header};
use super::node::{Key, Node};

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
            (Node::List(before), Node::List(now)) => {
                if let (Some(old), Some(new)) = (ascending(before), ascending(&now)) {
                    self.ascending(&old, &new)?;
                    *before = now;
                    return Ok(());
                }
                self.list(before, now)
            }
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

    /// What was dropped and what is new, by going through both in step.
    fn ascending(&mut self, before: &[i128], now: &[i128]) -> Result<(), RecordingError> {
        let (mut before, mut now) = (before.iter().copied().peekable(), now.iter().copied().peekable());
        let mut items: Vec<i128> = Vec::new();
        let mut last = 0;
        while now.peek().is_some() {
            let mut kept = 0;
            while let Some(same) = before.next_if(|old| now.peek() == Some(old)) {
                now.next();
                (last, kept) = (same, kept + 1);
            }
            let mut dropped = 0;
            while before.next_if(|old| now.peek().is_none_or(|new| old < new)).is_some() {
                dropped += 1;
            }
            let mut new: Vec<i128> = Vec::new();
            while let Some(value) = now.next_if(|new| before.peek().is_none_or(|old| new < old)) {
                new.push(value - last);
                last = value;
            }
            items.extend([kept, dropped, new.len() as i128]);
            items.extend(new);
        }
        self.push(Header::Tag(ASCENDING))?;
        self.array(items.len())?;
        items.into_iter().try_for_each(|item| self.integer(item))
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

/// The numbers of a list of ascending ones.
fn ascending(nodes: &[Node]) -> Option<Vec<i128>> {
    let numbers = nodes.iter().map(|node| match node {
        Node::Integer(number) => Some(*number),
        _ => None,
    });
    let numbers: Vec<i128> = numbers.collect::<Option<_>>()?;
    numbers.is_sorted_by(|one, next| one < next).then_some(numbers)
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

fn unwritten(error: impl std::fmt::Display) -> RecordingError {
    serde::ser::Error::custom(error)
}

/// A whole value by itself.
pub(super) fn write_whole(node: &Node) -> Result<Vec<u8>, RecordingError> {
    let mut bytes = Vec::new();
    Output::new(&mut bytes).whole(node)?;
    Ok(bytes)
}
