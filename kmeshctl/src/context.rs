//! Where to look and how to look: the arguments resolved, and the clear words for a machine that
//! is not as it must be.
//!
//! It refuses kernels that are too old and users who may not ask, before anything is touched.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kmesh_bpf::kernel::linux::Linux;
use kmesh_bpf::lock::{self, Holder, LockError, WriterLock};
use kmesh_bpf::pins::{self, Root};
use kmesh_bpf::{boot, cgroup, pending, privilege};

use crate::args::{Cli, Places};
use crate::output::{Style, tell};

/// The arguments that every verb shares, resolved.
#[derive(Debug)]
pub struct Context {
    /// The pins.
    pub root: Root,
    /// The cgroup, where it was named.
    pub cgroup: Option<PathBuf>,
    /// What outlives a reboot.
    pub state_dir: PathBuf,
    /// What does not.
    pub run_dir: PathBuf,
    /// Say more.
    pub verbose: bool,
    /// How standard output looks.
    pub style: Style,
}

/// `BPF_FS_MAGIC`.
const BPF_FS: u64 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2_FS: u64 = 0x6367_7270;

impl Context {
    /// From the command line.
    #[must_use]
    pub fn new(cli: &Cli) -> Self {
        let Places { bpf_root, cgroup, state_dir, run_dir } = &cli.places;
        Self {
            root: Root::new(bpf_root),
            cgroup: cgroup.clone(),
            state_dir: state_dir.clone(),
            run_dir: run_dir.clone(),
            verbose: cli.verbose,
            style: Style::new(cli.color),
        }
    }

    /// A door to the kernel, if this user and this kernel will do.
    pub fn kernel(&self) -> anyhow::Result<Linux> {
        boot::require_kernel()?;
        privilege::require()?;
        let (root, state, run) = (self.root.path(), &self.state_dir, &self.run_dir);
        self.mutter(&format!(
            "kernel {}; root {}; state {}; run {}",
            boot::kernel_release(),
            root.display(),
            state.display(),
            run.display()
        ));
        Ok(Linux::new())
    }

    /// Whether the operator named a root of his own.
    #[must_use]
    pub fn own_place(&self) -> bool {
        self.root.path() != Path::new(pins::DEFAULT_ROOT)
    }

    /// Whether anything is at the root. No BPF file system there is an error.
    pub fn is_installed(&self) -> anyhow::Result<bool> {
        let root = self.root.path();
        let Some(there) = root.ancestors().find(|path| path.exists()) else {
            bail!("{} is not a path", root.display());
        };
        if !is_bpffs(there)? {
            return Err(LockError::NotBpffs { root: root.to_owned() }.into());
        }
        let mut entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| format!("read {}", root.display())),
        };
        Ok(entries.next().is_some())
    }

    /// Refuses a root where nothing is.
    pub fn require_installed(&self) -> anyhow::Result<()> {
        if self.is_installed()? {
            return Ok(());
        }
        bail!(
            "nothing is installed here: {} is empty; start kmeshd, or kmeshctl restore FILE",
            self.root.path().display()
        )
    }

    /// The cgroup whose connections are governed.
    pub fn cgroup(&self) -> anyhow::Result<PathBuf> {
        let path = match &self.cgroup {
            Some(path) => path.clone(),
            None => cgroup::find_root()?,
        };
        if file_system(&path).context("find the governed cgroup")? != CGROUP2_FS {
            bail!(
                "{} is no cgroup2 directory; name the cgroup2 root, or a branch of it, with \
                 --cgroup (findmnt -t cgroup2 finds it)",
                path.display()
            );
        }
        self.mutter(&format!("cgroup {}", path.display()));
        Ok(path)
    }

    /// The writer's lock; whoever holds it is named, and what to do.
    pub fn lock(&self) -> anyhow::Result<WriterLock> {
        boot::require_btf()?;
        lock::acquire(&self.root, self.own_place()).map_err(|error| match error {
            LockError::Held { holder, .. } => self.held_by(&holder),
            other => other.into(),
        })
    }

    fn held_by(&self, holder: &Holder) -> anyhow::Error {
        let Holder { pid, command, .. } = holder;
        // What cannot be read says nothing about the holder.
        if let Ok(Some(pending)) = pending::load(&self.state_dir)
            && pending.guardian.is_some_and(|guardian| guardian.pid == *pid)
        {
            return anyhow::anyhow!("{pending}");
        }
        if *pid == 0 {
            return anyhow::anyhow!(
                "a process that cannot be seen from here (in another pid namespace, or at its end) \
                 writes the tables now; run this again, or where that process is"
            );
        }
        anyhow::anyhow!(
            "{command} (pid {pid}) writes the tables now, and would undo what is written beside \
             it; wait for its end, or end it: kill -TERM {pid} (what is in force stays in force), \
             then run this again"
        )
    }

    /// Says something on standard error.
    #[expect(clippy::unused_self, reason = "talk goes where the context says")]
    pub fn say(&self, text: &str) {
        tell(&format!("kmeshctl: {text}\n"));
    }

    /// Says something on standard error, if asked to say more.
    pub fn mutter(&self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }
}

fn is_bpffs(path: &Path) -> anyhow::Result<bool> {
    Ok(file_system(path)? == BPF_FS)
}

/// Which file system a path is on, by its magic number.
fn file_system(path: &Path) -> anyhow::Result<u64> {
    let fs = rustix::fs::statfs(path)
        .with_context(|| format!("ask which file system {} is on", path.display()))?;
    Ok(u64::try_from(fs.f_type).unwrap_or_default())
}
