//! `kmeshctl`.
#![forbid(unsafe_code)]
mod args;
mod output;
fn main() {}
