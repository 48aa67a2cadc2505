//! The integration tests: one binary, a file per topic.

mod bad_input;
mod exact;
mod go;
mod leakline;
mod run;
mod safety;
mod symbolize;
mod target;
