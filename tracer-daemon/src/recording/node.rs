//! What is recorded, as a tree: the one shape that all observations have on their way to a file and back.
//!
//! Owns the tree and the tables of texts and of shared structures (frames) that its numbers stand for. What a type's fields are
//! called comes from its `Serialize`; nothing here knows an observation.

use std::collections::HashMap;

use super::RecordingError;

/// Structures that are the same in many places: each is in the file once.
pub(super) const SHARED: [&str; 1] = ["Frame"];

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing: `None`.
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// Number of a text.
    Text(u32),
    /// Number of a shared structure.
    Shared(u32),
    List(Vec<Self>),
    /// Values by the number of the field's name, in the order of the type.
    Struct(Vec<(u32, Self)>),
    Map(Box<Entries>),
    /// The number of its name, and what it holds. One that holds nothing is a text.
    Variant(u32, Box<Self>),
}

/// A key of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Integer(i128),
    /// Number of a text.
    Text(u32),
}

/// A map. It remembers what each key had last, also where the key is not in it now.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    known: Vec<(Key, Node)>,
    places: HashMap<Key, usize>,
    /// What is in it now, in order: places in `known`.
    now: Vec<usize>,
    /// For each of `known` in which `turn` it was in it last.
    turns: Vec<u64>,
    turn: u64,
}

impl Entries {
    /// What is in it now.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &(Key, Node)> {
        // Places are made by `put` alone, and nothing is ever taken away: each is there.
        const NOTHING: &(Key, Node) = &(Key::Integer(0), Node::Null);
        self.now.iter().map(|place| self.known.get(*place).unwrap_or(NOTHING))
    }

    /// Empties it; what was in it is remembered.
    pub(super) fn clear(&mut self) {
        self.now.clear();
        self.turn += 1;
    }

    /// It is in it again: what it had last, to be changed. `None`: it never was.
    ///
    /// # Errors
    /// Where it is in it already.
    pub(super) fn again(&mut self, key: Key) -> Result<Option<&mut Node>, RecordingError> {
        let Some(place) = self.places.get(&key) else { return Ok(None) };
        if let Some(turn) = self.turns.get_mut(*place)
            && std::mem::replace(turn, self.turn) == self.turn
        {
            return Err(RecordingError::Malformed { what: "map: a key that is in it twice" });
        }
        self.now.push(*place);
        Ok(self.known.get_mut(*place).map(|(_, node)| node))
    }

    /// It is in it for the first time.
    ///
    /// # Errors
    /// Where it was in it before.
    pub(super) fn put(&mut self, key: Key, node: Node) -> Result<(), RecordingError> {
        let place = self.known.len();
        if self.places.insert(key, place).is_some() {
            return Err(RecordingError::Malformed { what: "map: a key that is in it twice" });
        }
        self.known.push((key, node));
        self.turns.push(self.turn);
        self.now.push(place);
        Ok(())
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Node {
    /// Whether a change from one to the other need not be written. A map always is: what is in it is said anew each time.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Map(_), _) => false,
            (Self::List(one), Self::List(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same(other))
            }
            (Self::Struct(one), Self::Struct(other)) => {
                let is_same = |((key, one), (other_key, other)): (&(u32, Self), &(u32, Self))| {
                    key == other_key && one.is_same(other)
                };
                one.len() == other.len() && one.iter().zip(other).all(is_same)
            }
            (Self::Variant(name, one), Self::Variant(other_name, other)) => name == other_name && one.is_same(other),
            (Self::Float(one), Self::Float(other)) => one.to_bits() == other.to_bits(),
            (one, other) => one == other,
        }
    }

    /// How many values it has, with those that a map remembers.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::List(nodes) => 1 + nodes.iter().map(Self::size).sum::<usize>(),
            Self::Struct(fields) => 1 + fields.iter().map(|(_, node)| node.size()).sum::<usize>(),
            Self::Map(entries) => 1 + entries.known.iter().map(|(_, node)| 2 + node.size()).sum::<usize>(),
            Self::Variant(_, node) => 1 + node.size(),
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Float(_) | Self::Text(_) | Self::Shared(_) => 1,
        }
    }
}

/// The tables of a file that is written.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    texts: HashMap<Box<str>, u32>,
    /// By what is written of them.
    shared: HashMap<Box<[u8]>, u32>,
    /// Since the last [`Self::take_new`].
    new: NewNumbers,
}

/// What must be written before it is referred to.
#[derive(Debug, Default)]
pub(super) struct NewNumbers {
    pub(super) texts: Vec<Box<str>>,
    /// As they are written.
    pub(super) shared: Vec<Box<[u8]>>,
}

impl Numbers {
    /// The number of a text.
    pub(super) fn text(&mut self, text: &str) -> Result<u32, RecordingError> {
        if let Some(number) = self.texts.get(text) {
            return Ok(*number);
        }
        let number = number(self.texts.len(), super::TEXTS_MAX, "texts")?;
        if text.len() > super::TEXT_BYTES_MAX {
            return Err(RecordingError::TooLarge { what: "a text", max: super::TEXT_BYTES_MAX });
        }
        self.texts.insert(text.into(), number);
        self.new.texts.push(text.into());
        Ok(number)
    }

    /// The number of a shared structure, by what is written of it.
    pub(super) fn shared(&mut self, written: &[u8]) -> Result<u32, RecordingError> {
        if let Some(number) = self.shared.get(written) {
            return Ok(*number);
        }
        let number = number(self.shared.len(), super::SHARED_MAX, "frames")?;
        self.shared.insert(written.into(), number);
        self.new.shared.push(written.into());
        Ok(number)
    }

    /// What is new.
    pub(super) fn take_new(&mut self) -> NewNumbers {
        std::mem::take(&mut self.new)
    }
}

fn number(count: usize, max: usize, what: &'static str) -> Result<u32, RecordingError> {
    u32::try_from(count).ok().filter(|_| count < max).ok_or(RecordingError::TooLarge { what, max })
}

/// The tables of a file that is read.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) texts: Vec<Box<str>>,
    pub(super) shared: Vec<Node>,
}

impl Tables {
    /// The text with this number.
    pub(super) fn text(&self, number: u32) -> Result<&str, RecordingError> {
        let text = usize::try_from(number).ok().and_then(|number| self.texts.get(number));
        text.map(|text| &**text).ok_or(RecordingError::Malformed { what: "number of a text" })
    }

    /// The structure with this number.
    pub(super) fn shared(&self, number: u32) -> Result<&Node, RecordingError> {
        let shared = usize::try_from(number).ok().and_then(|number| self.shared.get(number));
        shared.ok_or(RecordingError::Malformed { what: "number of a frame" })
    }
}
