//! From any value that is `Serialize` to a tree.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::RecordingError;
use super::node::{Entries, Key, Node, Numbers, SHARED};
use super::output::write_whole;

/// The tree of a value.
///
/// # Errors
/// Where a table is full.
pub(super) fn to_node<T: Serialize + ?Sized>(value: &T, numbers: &mut Numbers) -> Result<Node, RecordingError> {
    value.serialize(ToNode(numbers))
}

struct ToNode<'a>(&'a mut Numbers);

impl<'a> Serializer for ToNode<'a> {
    type Ok = Node;
    type Error = RecordingError;
    type SerializeSeq = ListOf<'a>;
    type SerializeTuple = ListOf<'a>;
    type SerializeTupleStruct = ListOf<'a>;
    type SerializeTupleVariant = ListOf<'a>;
    type SerializeMap = MapOf<'a>;
    type SerializeStruct = StructOf<'a>;
    type SerializeStructVariant = StructOf<'a>;

    fn serialize_bool(self, value: bool) -> Result<Node, RecordingError> {
        Ok(Node::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i16(self, value: i16) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i32(self, value: i32) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i64(self, value: i64) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_i128(self, value: i128) -> Result<Node, RecordingError> {
        let fits = u64::try_from(value).is_ok() || u64::try_from(!value).is_ok();
        fits.then_some(Node::Integer(value)).ok_or_else(|| RecordingError::custom("a number beyond 64 bits"))
    }

    fn serialize_u8(self, value: u8) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u16(self, value: u16) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u32(self, value: u32) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_u64(self, value: u64) -> Result<Node, RecordingError> {
        Ok(Node::Integer(value.into()))
    }

    fn serialize_f32(self, value: f32) -> Result<Node, RecordingError> {
        Ok(Node::Float(value.into()))
    }

    fn serialize_f64(self, value: f64) -> Result<Node, RecordingError> {
        Ok(Node::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Node, RecordingError> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<Node, RecordingError> {
        self.0.text(value).map(Node::Text)
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<Node, RecordingError> {
        Err(RecordingError::custom("bytes"))
    }

    fn serialize_none(self) -> Result<Node, RecordingError> {
        Ok(Node::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Node, RecordingError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Node, RecordingError> {
        Ok(Node::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Node, RecordingError> {
        Ok(Node::Null)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<Node, RecordingError> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<Node, RecordingError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Node, RecordingError> {
        let variant = self.0.text(variant)?;
        Ok(Node::Variant(variant, Box::new(value.serialize(self)?)))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<ListOf<'a>, RecordingError> {
        Ok(ListOf { numbers: self.0, variant: None, nodes: Vec::with_capacity(length.unwrap_or_default()) })
    }

    fn serialize_tuple(self, length: usize) -> Result<ListOf<'a>, RecordingError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<ListOf<'a>, RecordingError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<ListOf<'a>, RecordingError> {
        let variant = self.0.text(variant)?;
        Ok(ListOf { variant: Some(variant), ..self.serialize_seq(Some(length))? })
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<MapOf<'a>, RecordingError> {
        Ok(MapOf { numbers: self.0, entries: Entries::default(), key: None })
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<StructOf<'a>, RecordingError> {
        let is_shared = SHARED.contains(&name);
        Ok(StructOf { numbers: self.0, variant: None, is_shared, fields: Vec::with_capacity(length) })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<StructOf<'a>, RecordingError> {
        let variant = self.0.text(variant)?;
        Ok(StructOf { variant: Some(variant), is_shared: false, ..self.serialize_struct(name, length)? })
    }
}

struct ListOf<'a> {
    numbers: &'a mut Numbers,
    variant: Option<u32>,
    nodes: Vec<Node>,
}

impl ListOf<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordingError> {
        self.nodes.push(to_node(value, self.numbers)?);
        Ok(())
    }

    fn finish(self) -> Node {
        named(self.variant, Node::List(self.nodes))
    }
}

fn named(variant: Option<u32>, node: Node) -> Node {
    match variant {
        Some(name) => Node::Variant(name, Box::new(node)),
        None => node,
    }
}

macro_rules! list {
    ($($kind:ident: $push:ident),*) => {$(
        impl $kind for ListOf<'_> {
            type Ok = Node;
            type Error = RecordingError;

            fn $push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordingError> {
                self.push(value)
            }

            fn end(self) -> Result<Node, RecordingError> {
                Ok(self.finish())
            }
        }
    )*};
}

list! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
}

struct StructOf<'a> {
    numbers: &'a mut Numbers,
    variant: Option<u32>,
    is_shared: bool,
    fields: Vec<(u32, Node)>,
}

impl StructOf<'_> {
    fn push<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), RecordingError> {
        let key = self.numbers.text(key)?;
        self.fields.push((key, to_node(value, self.numbers)?));
        Ok(())
    }

    fn finish(self) -> Result<Node, RecordingError> {
        let node = Node::Struct(self.fields);
        if self.is_shared {
            return self.numbers.shared(&write_whole(&node)?).map(Node::Shared);
        }
        Ok(named(self.variant, node))
    }
}

macro_rules! structure {
    ($($kind:ident),*) => {$(
        impl $kind for StructOf<'_> {
            type Ok = Node;
            type Error = RecordingError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), RecordingError> {
                self.push(key, value)
            }

            fn end(self) -> Result<Node, RecordingError> {
                self.finish()
            }
        }
    )*};
}

structure!(SerializeStruct, SerializeStructVariant);

struct MapOf<'a> {
    numbers: &'a mut Numbers,
    entries: Entries,
    key: Option<Key>,
}

impl SerializeMap for MapOf<'_> {
    type Ok = Node;
    type Error = RecordingError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), RecordingError> {
        self.key = match to_node(key, self.numbers)? {
            Node::Integer(number) => Some(Key::Integer(number)),
            Node::Text(text) => Some(Key::Text(text)),
            _ => return Err(RecordingError::custom("a key that is neither text nor number")),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), RecordingError> {
        let key = self.key.take().ok_or_else(|| RecordingError::custom("a value without a key"))?;
        let node = to_node(value, self.numbers)?;
        self.entries.put(key, node)
    }

    fn end(self) -> Result<Node, RecordingError> {
        Ok(Node::Map(Box::new(self.entries)))
    }
}
