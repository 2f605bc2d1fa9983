//! Where models come from. Each source reads its own format, checks it wholly, and hands on a
//! [`crate::model::Model`] or says why not; none of them knows the tables.

pub mod mesh_file;
pub mod watch;
