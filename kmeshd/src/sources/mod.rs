//! Where models come from. Each source reads its own format, checks it, and hands on a whole
//! [`crate::model::Model`] or an [`crate::model::Update`], or says why not; none of them knows the
//! tables.

pub mod mesh_file;
pub mod watch;
pub mod xds;
