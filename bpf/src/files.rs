//! Files that are replaced as a whole: whoever reads one sees the old or the new, also after a
//! crash.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file could not be written or put in place.
    #[error("{op} {}", path.display())]
    File {
        /// What was attempted.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// Writes a file aside, flushes it, and puts it in place; its size. Makes the directory.
pub fn replace(
    dir: &Path,
    name: &str,
    say: &mut dyn FnMut(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<u64, FileError> {
    let aside = dir.join(format!(".{name}.{}", std::process::id()));
    let on = |op, path: &Path, source| FileError::File { op, path: path.to_owned(), source };
    fs::create_dir_all(dir).map_err(|source| on("make directory", dir, source))?;
    let filled = (|| {
        let mut file = BufWriter::new(File::create(&aside)?);
        say(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    })();
    let size = filled.map_err(|source| {
        // Half a file is of no use; the next one has the same name.
        let _ = fs::remove_file(&aside);
        on("write", &aside, source)
    })?;
    let place = dir.join(name);
    fs::rename(&aside, &place).map_err(|source| on("rename to", &place, source))?;
    flush_dir(dir)?;
    Ok(size)
}

/// Makes what was renamed or removed in a directory outlive a crash.
pub fn flush_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| FileError::File {
        op: "flush directory",
        path: dir.to_owned(),
        source,
    })
}
