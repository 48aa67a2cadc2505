//! From a tree to any value that is `Deserialize`.
//!
//! Fields that the type does not have are passed over. Counts what it hands out, since one number can stand for a long text.

use std::cell::Cell;

use serde::de::value::StrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::RecordingError;
use super::node::{Key, Node, Tables};

/// The tables, and how much may still be handed out.
#[derive(Debug)]
pub(super) struct Source<'a> {
    tables: &'a Tables,
    /// Values.
    nodes_left: Cell<usize>,
    /// Bytes of texts.
    text_left: Cell<usize>,
    text_bytes_max: usize,
}

/// What is handed out of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) nodes: usize,
    pub(super) text_bytes: usize,
}

impl Amount {
    /// Both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            text_bytes: self.text_bytes.saturating_add(other.text_bytes),
        }
    }

    /// The larger of both, each by itself.
    pub(super) fn max(self, other: Self) -> Self {
        Self { nodes: self.nodes.max(other.nodes), text_bytes: self.text_bytes.max(other.text_bytes) }
    }

    /// What is left of it without the other.
    pub(super) fn less(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_sub(other.nodes),
            text_bytes: self.text_bytes.saturating_sub(other.text_bytes),
        }
    }
}

/// Names of fields are as long; a longer one costs what it is longer.
const NAME_BYTES: usize = 64;

impl<'a> Source<'a> {
    /// Of which at most so much is handed out.
    pub(super) fn new(tables: &'a Tables, max: Amount) -> Self {
        let Amount { nodes, text_bytes } = max;
        Self { tables, nodes_left: Cell::new(nodes), text_left: Cell::new(text_bytes), text_bytes_max: text_bytes }
    }

    /// The value of a variant with this name.
    ///
    /// # Errors
    /// Where the tree is not of this type, or is too large; [`RecordingError::UnknownKind`] where the type has no such variant.
    pub(super) fn variant<'de, T: Deserialize<'de>>(
        &'de self,
        name: &'de str,
        node: Option<&'de Node>,
    ) -> Result<T, RecordingError> {
        T::deserialize(Variant { source: self, name, node })
    }

    /// How much may still be handed out.
    pub(super) fn left(&self) -> Amount {
        Amount { nodes: self.nodes_left.get(), text_bytes: self.text_left.get() }
    }

    fn text(&self, number: u32) -> Result<&str, RecordingError> {
        let text = self.tables.text(number)?;
        self.take_text(text.len())?;
        Ok(text)
    }

    /// Names of fields are compared and not kept: they cost nothing where they are as short as those of types are.
    fn name(&self, number: u32) -> Result<&str, RecordingError> {
        let name = self.tables.text(number)?;
        self.take_text(name.len().saturating_sub(NAME_BYTES))?;
        Ok(name)
    }

    fn take_text(&self, bytes: usize) -> Result<(), RecordingError> {
        let left = self.text_left.get().checked_sub(bytes);
        let too_large = RecordingError::TooLarge { what: "bytes of texts handed out", max: self.text_bytes_max };
        self.text_left.set(left.ok_or(too_large)?);
        Ok(())
    }

    fn take_one(&self) -> Result<(), RecordingError> {
        let left = self.nodes_left.get().checked_sub(1);
        self.nodes_left
            .set(left.ok_or(RecordingError::TooLarge { what: "values of a recording", max: super::WORK_MAX })?);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct FromNode<'de> {
    source: &'de Source<'de>,
    node: &'de Node,
}

impl<'de> FromNode<'de> {
    fn at(self, node: &'de Node) -> Self {
        Self { node, ..self }
    }

    fn fields<V: Visitor<'de>>(self, fields: &'de [(u32, Node)], visitor: V) -> Result<V::Value, RecordingError> {
        visitor.visit_map(Fields { source: self.source, rest: fields.iter(), value: None })
    }
}

impl<'de> Deserializer<'de> for FromNode<'de> {
    type Error = RecordingError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RecordingError> {
        self.source.take_one()?;
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Integer(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Text(number) => visitor.visit_str(self.source.text(*number)?),
            // Tables hold no numbers of structures: this ends.
            Node::Shared(number) => self.at(self.source.tables.shared(*number)?).deserialize_any(visitor),
            Node::List(nodes) => visitor.visit_seq(Items { source: self.source, rest: nodes.iter() }),
            Node::Struct(fields) => self.fields(fields, visitor),
            Node::Map(entries) => {
                let rest: Vec<&(Key, Node)> = entries.iter().collect();
                visitor.visit_map(Pairs { source: self.source, rest: rest.into_iter(), value: None })
            }
            Node::Variant(..) => Err(RecordingError::custom("a variant where none is")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RecordingError> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, RecordingError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RecordingError> {
        self.source.take_one()?;
        let (variant, node) = match self.node {
            Node::Text(variant) => (*variant, None),
            Node::Variant(variant, node) => (*variant, Some(&**node)),
            _ => return Err(RecordingError::custom("no variant where one is")),
        };
        let variant = self.source.text(variant)?;
        Variant { source: self.source, name: variant, node }.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RecordingError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}

struct Items<'de> {
    source: &'de Source<'de>,
    rest: std::slice::Iter<'de, Node>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = RecordingError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, RecordingError> {
        let Some(node) = self.rest.next() else { return Ok(None) };
        seed.deserialize(FromNode { source: self.source, node }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct Fields<'de> {
    source: &'de Source<'de>,
    rest: std::slice::Iter<'de, (u32, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = RecordingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, RecordingError> {
        let Some((name, node)) = self.rest.next() else { return Ok(None) };
        self.value = Some(node);
        let name: StrDeserializer<'_, RecordingError> = self.source.name(*name)?.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, RecordingError> {
        let node = self.value.take().ok_or_else(|| RecordingError::custom("a value without a key"))?;
        seed.deserialize(FromNode { source: self.source, node })
    }
}

struct Pairs<'de> {
    source: &'de Source<'de>,
    rest: std::vec::IntoIter<&'de (Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = RecordingError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, RecordingError> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        self.value = Some(node);
        self.source.take_one()?;
        match key {
            Key::Integer(number) => {
                let number =
                    i64::try_from(*number).map_err(|_beyond| RecordingError::custom("a key beyond 63 bits"))?;
                seed.deserialize(number.into_deserializer()).map(Some)
            }
            Key::Text(text) => {
                let text: StrDeserializer<'_, RecordingError> = self.source.text(*text)?.into_deserializer();
                seed.deserialize(text).map(Some)
            }
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, RecordingError> {
        let node = self.value.take().ok_or_else(|| RecordingError::custom("a value without a key"))?;
        seed.deserialize(FromNode { source: self.source, node })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// One of several, by its name.
#[derive(Clone, Copy)]
struct Variant<'de> {
    source: &'de Source<'de>,
    name: &'de str,
    node: Option<&'de Node>,
}

impl<'de> Variant<'de> {
    fn node(self) -> Result<FromNode<'de>, RecordingError> {
        let node = self.node.ok_or_else(|| RecordingError::custom("nothing in a variant that holds something"))?;
        Ok(FromNode { source: self.source, node })
    }
}

impl<'de> Deserializer<'de> for Variant<'de> {
    type Error = RecordingError;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, RecordingError> {
        Err(RecordingError::custom("a variant where none is"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RecordingError> {
        if !variants.contains(&self.name) {
            return Err(RecordingError::UnknownKind);
        }
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = RecordingError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), RecordingError> {
        let name: StrDeserializer<'_, RecordingError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = RecordingError;

    fn unit_variant(self) -> Result<(), RecordingError> {
        // What a later version put into it is passed over.
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, RecordingError> {
        seed.deserialize(self.node()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, RecordingError> {
        self.node()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RecordingError> {
        self.node()?.deserialize_any(visitor)
    }
}
