//! The integration tests: one binary, a file per topic.

mod go;
mod inspect;
mod symbolize;
