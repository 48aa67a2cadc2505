//! Laws of the format.
